//! Which language a text is in.

use whatlang::Lang;

use super::function_words::{Vote, is_decided, vote};

/// Characters that are looked at: enough to tell, and a long answer costs no more than a short one.
const SAMPLE: usize = 300;
/// Letters below which nobody can tell.
const FEWEST_LETTERS: usize = 15;

/// The ISO 639-1 code of the language that `text` begins with, as `es`; `None` where it is too short, is no prose, or
/// could well be another. By its small words, and by trigrams and alphabets (crate `whatlang`): both have to agree where
/// one of them is not sure.
pub fn language(text: &str) -> Option<&'static str> {
    let end = text.char_indices().nth(SAMPLE).map_or(text.len(), |(at, _)| at);
    let sample = &text[..end];
    // Every letter of a script without spaces says much more than one of an alphabet.
    let weight = |char: char| if char >= '\u{2E80}' { 5 } else { usize::from(char.is_alphabetic()) };
    let letters = sample.chars().map(weight).sum::<usize>();
    let vote = vote(sample);
    if let Some(Vote { language, points, next, words }) = vote {
        let leads = points >= 3.0 * next && points * 8.0 >= words as f32;
        if is_decided(language) && leads && points >= 2.5 {
            return Some(language);
        }
    }
    if letters < FEWEST_LETTERS {
        return None;
    }
    let info = whatlang::detect(sample)?;
    let guess = code(info.lang());
    match vote {
        Some(Vote { language, points, next, .. }) if language == guess => {
            let agree = points >= 1.0 && points >= 1.5 * next && is_decided(language);
            (agree || info.is_reliable()).then_some(guess)
        }
        // Another language's words, or a language that must show its own and does not.
        Some(Vote { points, .. }) if points >= 1.0 => None,
        _ if is_decided(guess) => None,
        _ => info.is_reliable().then_some(guess),
    }
}

/// The two letters of a language.
fn code(lang: Lang) -> &'static str {
    match lang {
        Lang::Afr => "af",
        Lang::Aka => "ak",
        Lang::Amh => "am",
        Lang::Ara => "ar",
        Lang::Aze => "az",
        Lang::Bel => "be",
        Lang::Ben => "bn",
        Lang::Bul => "bg",
        Lang::Cat => "ca",
        Lang::Ces => "cs",
        Lang::Cmn => "zh",
        Lang::Cym => "cy",
        Lang::Dan => "da",
        Lang::Deu => "de",
        Lang::Ell => "el",
        Lang::Eng => "en",
        Lang::Epo => "eo",
        Lang::Est => "et",
        Lang::Fin => "fi",
        Lang::Fra => "fr",
        Lang::Guj => "gu",
        Lang::Heb => "he",
        Lang::Hin => "hi",
        Lang::Hrv => "hr",
        Lang::Hun => "hu",
        Lang::Hye => "hy",
        Lang::Ind => "id",
        Lang::Ita => "it",
        Lang::Jav => "jv",
        Lang::Jpn => "ja",
        Lang::Kan => "kn",
        Lang::Kat => "ka",
        Lang::Khm => "km",
        Lang::Kor => "ko",
        Lang::Lat => "la",
        Lang::Lav => "lv",
        Lang::Lit => "lt",
        Lang::Mal => "ml",
        Lang::Mar => "mr",
        Lang::Mkd => "mk",
        Lang::Mya => "my",
        Lang::Nep => "ne",
        Lang::Nld => "nl",
        Lang::Nob => "nb",
        Lang::Ori => "or",
        Lang::Pan => "pa",
        Lang::Pes => "fa",
        Lang::Pol => "pl",
        Lang::Por => "pt",
        Lang::Ron => "ro",
        Lang::Rus => "ru",
        Lang::Sin => "si",
        Lang::Slk => "sk",
        Lang::Slv => "sl",
        Lang::Sna => "sn",
        Lang::Spa => "es",
        Lang::Srp => "sr",
        Lang::Swe => "sv",
        Lang::Tam => "ta",
        Lang::Tel => "te",
        Lang::Tgl => "tl",
        Lang::Tha => "th",
        Lang::Tuk => "tk",
        Lang::Tur => "tr",
        Lang::Ukr => "uk",
        Lang::Urd => "ur",
        Lang::Uzb => "uz",
        Lang::Vie => "vi",
        Lang::Yid => "yi",
        Lang::Zul => "zu",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prose_is_told_by_its_language() {
        for (text, expected) in [
            ("The delivery should reach you tomorrow before noon; thank you for waiting so long.", "en"),
            ("Buenas tardes, quisiera saber cuándo llegará el pedido que hice la semana pasada.", "es"),
            (
                "Je voudrais savoir quand ma commande arrivera, car je l'attends déjà depuis une semaine et personne ne répond.",
                "fr",
            ),
            ("Wann wird meine Bestellung geliefert? Ich warte schon seit einer Woche darauf.", "de"),
            (
                "Когда придёт мой заказ? Я жду его уже целую неделю, и никто мне ничего не отвечает. Сообщите, пожалуйста, номер отправления и примерную дату доставки, чтобы я мог быть дома.",
                "ru",
            ),
            ("¿Cuántos días tiene un año bisiesto?", "es"),
            ("366, porque el universo no tuvo la cortesía de ajustarse a nuestro calendario.", "es"),
            ("Yeah, I just took a nap. What did you do?", "en"),
            ("Você pode me dizer quanto custa isso?", "pt"),
            ("Est-ce que vous êtes ouverts le dimanche ?", "fr"),
            ("Ich habe das nicht bestellt.", "de"),
            ("Non so perché il pacco non è arrivato.", "it"),
            ("Aquest paquet encara no m'ha arribat, què puc fer?", "ca"),
            ("我的订单什么时候能到？我已经等了一个星期了。", "zh"),
            ("注文した商品はいつ届きますか。もう一週間も待っています。", "ja"),
        ] {
            assert_eq!(language(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_told_has_no_language() {
        for text in [
            "",
            "ok",
            "Hola",
            "12 + 30 = 42",
            "{\"a\": 1}",
            "Hi! Hi! Hi! Hi!",
            "Real Madrid, Barcelona",
            "😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀",
        ] {
            assert_eq!(language(text), None, "{text}");
        }
    }

    #[test]
    fn small_words_of_a_language_that_is_not_voted_for_decide_for_no_other() {
        for text in [
            "Wat is de beste manier om dit te doen en hoe werkt het?",
            "Jag har inte fått min beställning än, vad ska jag göra?",
            "Eu non sei que facer cando isto pasa moito tempo.",
            "Nu știu ce să fac cu acest pachet care nu este al meu.",
            "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor.",
        ] {
            let found = language(text);
            assert!(found.is_none_or(|code| ["nl", "sv", "ro", "la"].contains(&code)), "{found:?}: {text}");
        }
    }

    #[test]
    fn a_long_text_is_judged_by_its_head() {
        let text = "La respuesta es sencilla y la explicaremos con mucho gusto a continuación. ".repeat(20);
        assert_eq!(language(&(text + &"the and of ".repeat(5000))), Some("es"));
    }
}
