//! Languages by their small words: a question of ten words has four of them, and no trigrams to speak of.

use std::{collections::HashMap, sync::LazyLock};

/// The languages that are voted for, and those that look like them: a word that several have counts less.
const LANGUAGES: [(&str, &str); 13] = [
    (
        "es",
        "el la los las un una unos unas de del que y o en es no se por con para su sus al lo como más pero le les ya este \
         sí porque esta entre cuando muy sin sobre también me hasta hay donde quien desde todo todos toda nos durante uno \
         ni contra otro otra otros ese esa eso esto antes qué yo él ella ellos tanto estos estas mucho muchos nada algo \
         nosotros mi mis tú te tu tus usted ustedes cuál cuánto cuántos cuántas dónde cómo cuándo quién está están estoy \
         son soy eres fue era ser puede puedo puedes tiene tienes tengo hace hacer gracias hola buenos buenas aquí así \
         quiero necesito si ha he han nuestro nuestra cada mejor ahora después dos tres",
    ),
    (
        "en",
        "the of and to in is you that it he was for on are with as i his they be at one have this from or had by but what \
         some we can out other were all there when up use your how said an each she which do does their if will way about \
         many then them would like so these her him has more could go come did my no most who over know than first may \
         been now any also don't i'm it's what's that's you're isn't can't yes please hello thanks thank not just where \
         why much very here our us me its into only should because need want good make get hi hey",
    ),
    (
        "pt",
        "o a os as um uma de do da dos das que e ou em é não se por com para seu sua seus suas ao à como mais mas ele ela \
         eles já este sim porque esta entre quando muito sem sobre também me até há onde quem desde tudo nos você vocês \
         são está estão foi era ser pode tem tenho fazer obrigado obrigada olá bom boa aqui assim na no nas num numa pelo \
         pela isso isto meu minha eu nós qual quanto quantos quantas depois agora cada melhor dois três lhe",
    ),
    (
        "fr",
        "le la les un une des du de que et ou en est ne pas se par avec pour son sa ses au aux comme plus mais il elle ils \
         elles on déjà ce cet cette ces ça oui parce entre quand très sans sur aussi me où qui depuis tout tous nous vous \
         je tu sont suis été peut avoir être faire merci bonjour ici ainsi dans votre vos notre nos mon ma mes ton quel \
         quelle combien si rien bien pourquoi comment c'est j'ai n'est d'un d'une qu'il moins deux trois leur",
    ),
    (
        "de",
        "der die das und in zu den dem von mit ist des sich auf für nicht ein eine einen einem einer als auch es an werden \
         aus er hat dass sie nach wird bei noch wie um am sind über so zum war haben nur oder aber vor zur bis mehr durch \
         man sein wurde wenn ich du wir ihr mir dir mich dich kann können was wo wer wann warum danke hallo ja nein bitte \
         wenn mein meine dein deine sehr hier gibt immer zwei drei habe bin",
    ),
    (
        "it",
        "il lo la i gli le un uno una di del della dei delle dello che e o in è non si per con da al alla come più ma suo \
         sua sono ho hai ha abbiamo questo questa quando molto senza sopra anche mi fino dove chi tutto tutti noi voi io \
         tu lui lei perché cosa quanto quale può posso fare grazie ciao qui così nel nella nei sul sulla dal dalla se ti \
         ci essere sei sta stato mio mia tuo ogni ora dopo due tre c'è po' buongiorno",
    ),
    (
        "ca",
        "el la els les un una de del dels que i o en és no es per amb seu seva al com més però ja aquest aquesta aquests sí \
         perquè entre quan molt sense sobre també fins hi ha on qui des tot tots nosaltres vosaltres jo tu són està estan \
         pot tinc fer gràcies hola bon bona aquí així als pels quin quina quants què meu meva ens us ho sóc vaig dos tres \
         d'un d'una l'hora si em et",
    ),
    (
        "gl",
        "o a os as un unha de do da dos das que e ou en é non se por con para seu súa ao como máis pero el ela xa este si \
         porque esta entre cando moito sen sobre tamén ata hai onde quen dende todo nós vostede son está foi pode ten teño \
         facer grazas ola aquí así na no nunha polo pola isto iso meu miña eu",
    ),
    (
        "nl",
        "de het een van en in is dat op te zijn met voor niet aan er om ook als maar dan bij uit nog naar heeft ze wat over \
         worden ik je u wij hun haar kan geen deze dit die door wel hij zij was of mijn jouw waar hoe wie veel meer",
    ),
    (
        "ro",
        "și de la în un o nu cu pe este că sunt din care mai se pentru ca să au fi ce dar eu tu el ea noi voi ei al ale a \
         cum unde când foarte acest această",
    ),
    (
        "sv",
        "och att det i en som är av för på den med inte till har ett om var jag de från du kan så vi han hon men hur vad \
         mycket min din",
    ),
    (
        "da",
        "og at det i en som er af for på den med ikke til har et om var jeg de fra du kan så vi han hun men hvordan hvad \
         meget min din",
    ),
    (
        "la",
        "et in est non ad cum ut sed qui quae quod ex ab per de si enim nec neque autem etiam lorem ipsum dolor sit amet",
    ),
];

/// The languages that a vote decides for; the others only keep it from being wrong.
const DECIDED: usize = 7;

/// A word counts so often, at most.
const MOST_TIMES: usize = 2;

/// What the small words and the letters of a text say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Vote {
    pub(super) language: &'static str,
    /// A word that only one language has counts 1, one of two a half; and what the next language has.
    pub(super) points: f32,
    pub(super) next: f32,
    pub(super) words: usize,
}

/// The language with the most points; `None` where no word or letter says anything.
pub(super) fn vote(text: &str) -> Option<Vote> {
    static WORDS: LazyLock<HashMap<&str, u16>> = LazyLock::new(|| {
        let mut words = HashMap::new();
        for (index, (_, list)) in LANGUAGES.iter().enumerate() {
            list.split_whitespace().for_each(|word| *words.entry(word).or_default() |= 1 << index);
        }
        words
    });
    let mut points = [0f32; LANGUAGES.len()];
    let (mut words, mut seen) = (0, HashMap::new());
    let lower = text.to_lowercase().replace('’', "'");
    for word in lower.split(|char: char| !char.is_alphabetic() && char != '\'').filter(|word| !word.is_empty()) {
        words += 1;
        let word = word.trim_matches('\'');
        let Some(&known) = WORDS.get(word) else { continue };
        // A greeting said five times is one word.
        let times = seen.entry(word).or_insert(0);
        *times += 1;
        if *times > MOST_TIMES {
            continue;
        }
        let share = 1.0 / known.count_ones() as f32;
        points.iter_mut().enumerate().filter(|(index, _)| known >> index & 1 == 1).for_each(|(_, sum)| *sum += share);
    }
    let place = |code: &str| LANGUAGES.iter().position(|(known, _)| *known == code).unwrap_or(0);
    for (language, signs, worth) in [
        ("es", ['¿', '¡', 'ñ'], [2.0, 2.0, 1.0]),
        ("pt", ['ã', 'õ', 'ã'], [1.0, 1.0, 0.0]),
        ("de", ['ß', 'ä', 'ü'], [2.0, 0.5, 0.5]),
        ("sv", ['å', 'ä', 'ö'], [1.0, 0.5, 0.5]),
        ("da", ['å', 'æ', 'ø'], [1.0, 1.0, 1.0]),
        ("ro", ['ă', 'ș', 'ț'], [2.0, 2.0, 2.0]),
    ] {
        for (sign, worth) in signs.into_iter().zip(worth) {
            // Once: a name may have it several times.
            points[place(language)] += if lower.contains(sign) { worth } else { 0.0 };
        }
    }
    let best = (0..LANGUAGES.len()).max_by(|&one, &other| points[one].total_cmp(&points[other]))?;
    let next = (0..LANGUAGES.len()).filter(|&index| index != best).map(|index| points[index]).fold(0.0, f32::max);
    (points[best] > 0.0).then_some(Vote { language: LANGUAGES[best].0, points: points[best], next, words })
}

/// Whether a vote may decide for this language alone.
pub(super) fn is_decided(language: &str) -> bool {
    LANGUAGES[..DECIDED].iter().any(|(known, _)| *known == language)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_one_language_count_more_than_words_of_several() {
        let vote = vote("the cat and a no").unwrap();
        assert_eq!((vote.language, vote.words), ("en", 5));
        assert!((2.0..3.0).contains(&vote.points) && vote.next < 1.0, "{vote:?}");
        assert!(super::vote("12 + 30").is_none());
    }

    #[test]
    fn no_word_stands_twice_in_a_list() {
        for (language, list) in LANGUAGES {
            let words: Vec<&str> = list.split_whitespace().collect();
            let unique: std::collections::HashSet<_> = words.iter().collect();
            assert!(unique.len() + 1 >= words.len(), "{language}");
        }
    }
}
