//! Spanish or English: a guess from a question's letters and small words, for a report that shows each language.
//!
//! Adds up points: letters that one language has (`ñ`, `¿`, accented vowels; `w`, `k`, `th`), its function words (articles,
//! pronouns, prepositions, auxiliaries, greetings, and the chat spellings of them), and the endings of its words. No word
//! that means a thing (no `pedido`, no `parcel`) is in the lists, so the guess does not depend on what the question is about.

/// A language of the reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Language {
    Spanish,
    English,
}

impl Language {
    /// Its ISO 639-1 code.
    pub fn as_str(self) -> &'static str {
        match self {
            Language::Spanish => "es",
            Language::English => "en",
        }
    }
}

/// The likelier language; `None` where nothing tells, as in a number or in keyboard noise.
pub fn guess_language(text: &str) -> Option<Language> {
    let lower = text.to_lowercase().replace('’', "'");
    let mut spanish = 2.0 * lower.chars().filter(|c| "ñ¿¡áéíóúü".contains(*c)).count() as f64;
    let mut english = 0.0;
    for word in lower.split(|c: char| !c.is_alphanumeric() && c != '\'') {
        let word = word.trim_matches('\'');
        spanish += if SPANISH.contains(&word) { 2.0 } else { 0.0 };
        english += if ENGLISH.contains(&word) { 2.0 } else { 0.0 };
        let letters = word.chars().count();
        if letters < 4 || word.chars().any(|c| c.is_ascii_digit()) {
            continue;
        }
        spanish += points(&SPANISH_ENDINGS, |ending| word.ends_with(ending));
        english += points(&ENGLISH_ENDINGS, |ending| word.ends_with(ending));
        english += points(&ENGLISH_PARTS, |part| word.contains(part));
    }
    if spanish == english {
        return None;
    }
    Some(if spanish > english { Language::Spanish } else { Language::English })
}

fn points(parts: &[&str], found: impl Fn(&str) -> bool) -> f64 {
    if parts.iter().any(|part| found(part)) { 0.5 } else { 0.0 }
}

/// Words of both languages (`a`, `me`, `no`, `he`, `son`, `sea`, `once`, `sin`, `has`, `come`) are in neither list.
const SPANISH: [&str; 151] = [
    "el", "la", "los", "las", "un", "una", "unos", "unas", "lo", "al", "del", "de", "en", "con", "por", "para", "pa",
    "desde", "hasta", "sobre", "entre", "y", "e", "o", "ni", "que", "q", "qué", "k", "ke", "si", "sí", "pero",
    "porque", "pues", "como", "cuando", "donde", "quien", "cual", "cuanto", "cuanta", "cuantos", "mi", "mis", "tu",
    "tus", "su", "sus", "yo", "tú", "él", "ella", "ellos", "nos", "os", "les", "le", "se", "te", "usted", "ustedes",
    "vos", "vosotros", "nosotros", "vuestro", "vuestra", "nuestro", "nuestra", "este", "esta", "esto", "estos",
    "estas", "ese", "esa", "eso", "esos", "esas", "es", "era", "fue", "ser", "está", "estoy", "están", "estan", "hay",
    "ay", "había", "ha", "han", "hace", "haya", "tengo", "tiene", "tienen", "puedo", "puede", "pueden", "quiero",
    "kiero", "quiere", "quisiera", "necesito", "nesesito", "va", "voy", "van", "ver", "muy", "más", "mas", "menos",
    "ya", "aún", "aun", "todavía", "todavia", "también", "tambien", "ahora", "ayer", "hoy", "oy", "mañana", "siempre",
    "nunca", "nada", "algo", "alguien", "nadie", "todo", "toda", "todos", "todas", "otro", "otra", "solo", "sólo",
    "hola", "ola", "gracias", "favor", "porfa", "xfa", "porfavor", "buenos", "buenas", "días", "dias",
];
const ENGLISH: [&str; 152] = [
    "the",
    "an",
    "of",
    "to",
    "in",
    "on",
    "at",
    "for",
    "from",
    "with",
    "without",
    "by",
    "about",
    "into",
    "up",
    "out",
    "off",
    "over",
    "and",
    "or",
    "but",
    "if",
    "because",
    "when",
    "where",
    "what",
    "whats",
    "which",
    "who",
    "whose",
    "why",
    "how",
    "hw",
    "that",
    "this",
    "these",
    "those",
    "there",
    "here",
    "i",
    "im",
    "you",
    "u",
    "ur",
    "he's",
    "she",
    "it",
    "its",
    "we",
    "they",
    "them",
    "us",
    "my",
    "your",
    "his",
    "her",
    "our",
    "their",
    "is",
    "are",
    "was",
    "were",
    "be",
    "been",
    "am",
    "do",
    "does",
    "did",
    "doing",
    "don't",
    "dont",
    "doesn't",
    "didn't",
    "won't",
    "wont",
    "can",
    "can't",
    "cant",
    "could",
    "would",
    "should",
    "shud",
    "will",
    "may",
    "might",
    "must",
    "have",
    "had",
    "having",
    "i'm",
    "i'd",
    "i've",
    "i'll",
    "it's",
    "what's",
    "that's",
    "there's",
    "where's",
    "wheres",
    "who's",
    "you've",
    "you're",
    "we're",
    "we've",
    "we'll",
    "not",
    "none",
    "any",
    "some",
    "all",
    "both",
    "each",
    "every",
    "much",
    "many",
    "more",
    "most",
    "less",
    "than",
    "then",
    "too",
    "very",
    "just",
    "only",
    "still",
    "yet",
    "already",
    "also",
    "again",
    "now",
    "yesterday",
    "today",
    "tomorrow",
    "hello",
    "hey",
    "heyy",
    "hi",
    "thanks",
    "thank",
    "please",
    "pls",
    "plz",
    "sorry",
    "yes",
    "get",
    "got",
    "says",
    "said",
    "want",
    "need",
    "know",
    "so",
];
const SPANISH_ENDINGS: [&str; 15] = [
    "ción", "cion", "mente", "ando", "iendo", "ado", "ada", "ido", "ida", "dad", "aron", "ieron", "illa", "ita", "cia",
];
const ENGLISH_ENDINGS: [&str; 9] = ["ing", "tion", "ly", "ed", "ness", "ment", "'s", "n't", "ght"];
const ENGLISH_PARTS: [&str; 8] = ["th", "sh", "w", "k", "ee", "oo", "ck", "gh"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spanish_and_english_are_told_apart() {
        for (text, expected) in [
            ("¿Dónde está mi pedido?", "es"),
            ("kiero saber si ay el movil en rosa", "es"),
            ("precio d la bici electrica xfa", "es"),
            ("Buenas tardes", "es"),
            ("m kitaron plata d la cuenta", "es"),
            ("Where is my parcel?", "en"),
            ("hw much 4 the big speaker n is there any deal on", "en"),
            ("Sorry, wrong chat, ignore me.", "en"),
            ("Hello there", "en"),
            ("I'm José and I can't log in at el cafe", "en"),
        ] {
            assert_eq!(guess_language(text).map(Language::as_str), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_tells_nothing_is_unknown() {
        assert_eq!(guess_language(""), None);
        assert_eq!(guess_language("123 !!!"), None);
        assert_eq!(guess_language("zxcvb"), None);
    }

    #[test]
    fn the_lists_hold_no_word_twice_and_none_in_common() {
        let mut all: Vec<&str> = SPANISH.iter().chain(&ENGLISH).copied().collect();
        all.sort_unstable();
        let repeated: Vec<&[&str]> = all.windows(2).filter(|pair| pair[0] == pair[1]).collect();
        assert!(repeated.is_empty(), "{repeated:?}");
    }
}
