//! Which language a text is in.

use whatlang::Lang;

/// Characters that are looked at: enough to tell, and a long answer costs no more than a short one.
const SAMPLE: usize = 300;
/// Letters below which nobody can tell.
const FEWEST_LETTERS: usize = 15;

/// The ISO 639-1 code of the language that `text` begins with, as `es`; `None` where it is too short, is no prose, or
/// could well be another. By trigrams and alphabets (crate `whatlang`).
pub fn language(text: &str) -> Option<&'static str> {
    let end = text.char_indices().nth(SAMPLE).map_or(text.len(), |(at, _)| at);
    let sample = &text[..end];
    // Every letter of a script without spaces says much more than one of an alphabet.
    let weight = |char: char| if char >= '\u{2E80}' { 5 } else { usize::from(char.is_alphabetic()) };
    if sample.chars().map(weight).sum::<usize>() < FEWEST_LETTERS {
        return None;
    }
    let info = whatlang::detect(sample)?;
    info.is_reliable().then(|| code(info.lang()))
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
            ("我的订单什么时候能到？我已经等了一个星期了。", "zh"),
            ("注文した商品はいつ届きますか。もう一週間も待っています。", "ja"),
        ] {
            assert_eq!(language(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_told_has_no_language() {
        for text in ["", "ok", "Hola", "12 + 30 = 42", "{\"a\": 1}", "😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀"]
        {
            assert_eq!(language(text), None, "{text}");
        }
    }

    #[test]
    fn a_long_text_is_judged_by_its_head() {
        let text = "La respuesta es sencilla y la explicaremos con mucho gusto a continuación. ".repeat(20);
        assert_eq!(language(&(text + &"the and of ".repeat(5000))), Some("es"));
    }
}
