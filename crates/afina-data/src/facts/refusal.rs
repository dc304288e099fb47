//! Whether an answer declines to answer, in English or Spanish.

use std::sync::LazyLock;

use regex::Regex;

/// How far an answer is looked at, in bytes: who refuses does so at once.
const HEAD: usize = 240;

const ENGLISH: &str = r"(?xi)^\W*
    (?: (?: (?: (?:i'm|i\ am|we're|we\ are) \ (?:(?:really|very|so|truly|terribly|deeply)\ )? (?:sorry|afraid)
              | (?:i'm\ )?sorry | (?:my\ |our\ )?apologies | (?:i|we)\ apologi[sz]e | unfortunately | regrettably
              | thank\ you [^.!?]{0,60} )
            (?: [^.!?,]{0,40} )? [\s,.:;!—–-]* )?
      (?: (?:but|however) [\s,]+ )?
      (?: as\ an?\ (?:ai|artificial|large|language|assistant|virtual) [^.!?,]{0,60} ,\s* )?
      (?: (?:but|however|that) [\s,]+ )? )
    (?: (?:i|we) (?:'m|\ am|'re|\ are) \ (?:not\ able|unable|not\ allowed|not\ permitted|not\ comfortable|not\ in\ a\ position) \b
      | (?:i|we) \ (?:simply\ |also\ )? (?:can't|cannot|can\ not|couldn't|could\ not|won't|will\ not|won't\ be\ able\ to|will\ not\ be\ able\ to)
        \ (?:\w+ly\ )? (?:answer|help|assist|provide|respond|reply|discuss|share|comply|fulfil+|comment|give|offer|do\ (?:that|this|so)
          |engage|generate|create|write|complete|continue|advise|recommend|tell\ you|talk|participate|support|promote) \b
      | (?:i|we) \ (?:must|have\ to|need\ to) \ (?:\w+ly\ )? (?:decline|refuse) \b
      | (?:i|we) \ (?:refuse|decline) \ to \b
      | (?:that|this) (?:'s|\ is) \ (?:\w+\ )? (?:outside|beyond|not\ something\ i) \b )";

const SPANISH: &str = r"(?xi)^\W*
    (?: (?: (?: lo\ (?:siento|lamento) | (?:lamentable|desafortunada|desgraciada)mente | disculp\w+ | perd[oó]n\w* | siento | lamento | me\ temo | gracias [^.!?]{0,60} )
            (?: [^.!?,]{0,30} )? [\s,.:;!—–-]* )?
      (?: (?:pero|sin\ embargo) [\s,]+ )?
      (?: como\ (?:un\ |una\ )?(?:modelo|asistente|ia\b|inteligencia) [^.!?,]{0,60} ,\s* )?
      (?: (?:pero|que|sin\ embargo) [\s,]+ )? )
    (?: no\ (?:te\ |le\ |les\ |lo\ |la\ )? (?:puedo|podemos|podr[eé]|podremos|me\ es\ posible|nos\ es\ posible|soy\ capaz\ de|estoy\ autorizad[oa]\ (?:a|para)|se\ me\ permite|tengo\ permitido)
        \ (?:ayuda|responde|contesta|asisti|proporciona|da|ofrece|brinda|comparti|habla|comenta|cumpli|atende|facilita|genera|crea|escribi|opina|continua|recomenda|hace|realiza|deci) r\w* \b
      | no\ estoy\ en\ condiciones \b
      | (?:debo|tengo\ que|me\ veo\ obligad[oa]\ a) \ (?:rechaza|declina|nega) r\w* \b
      | me\ niego\ a \b
      | (?:eso|esto) \ (?:est[aá]|queda) \ fuera\ de \b )";

/// Whether a text begins as one that declines to answer. "I'm sorry to hear that" and "I can't wait" do not.
pub(super) fn is_refusal(text: &str) -> bool {
    static PATTERNS: LazyLock<[Option<Regex>; 2]> =
        LazyLock::new(|| [ENGLISH, SPANISH].map(|text| Regex::new(text).ok()));
    let head = &text[..text.floor_char_boundary(HEAD)];
    let straight;
    let head = if head.contains('’') {
        straight = head.replace('’', "'");
        &straight
    } else {
        head
    };
    PATTERNS.iter().flatten().any(|pattern| {
        pattern
            .find(head)
            .is_some_and(|found| !(found.as_str().ends_with("help") && head[found.end()..].starts_with(" but")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_patterns_are_well_formed() {
        assert!(Regex::new(ENGLISH).is_ok() && Regex::new(SPANISH).is_ok());
    }

    #[test]
    fn refusals_are_known_in_two_languages() {
        for text in [
            "I'm sorry, but I cannot answer this question about apple.",
            "I’m sorry, I can’t help with that.",
            "Sorry, I can't assist with that request.",
            "I am unable to provide medical advice.",
            "Unfortunately, I'm not able to discuss politics.",
            "As an AI language model, I cannot give legal advice.",
            "I apologize, but as an AI assistant, I can't provide that.",
            "I'm sorry for the trouble, but I won't be able to help with that.",
            "I must respectfully decline.",
            "That is outside my area.",
            "Thank you for asking, but I cannot comment on that.",
            "Lo siento, pero no puedo ayudarte con eso.",
            "Lo siento mucho. No puedo responder a esa pregunta.",
            "No puedo proporcionar esa información.",
            "Lamentablemente, no podemos darle ese dato.",
            "Como modelo de lenguaje, no puedo opinar.",
            "Lo lamento, no estoy en condiciones de decirlo.",
            "Disculpe, no le puedo ofrecer asesoría legal.",
        ] {
            assert!(is_refusal(text), "{text}");
        }
    }

    #[test]
    fn what_only_sounds_like_one_is_none() {
        for text in [
            "I'm sorry to hear that! Let's fix it.",
            "I can't wait to see it.",
            "I cannot help but smile.",
            "You can't answer this without more data.",
            "Sorry for the delay. Here is your invoice.",
            "Cannot is a verb.",
            "I can help you with that.",
            "No, the shop is closed.",
            "No puedo creerlo, qué bien.",
            "Lo siento mucho por la demora. Aquí tiene su factura.",
            "No, la tienda está cerrada.",
            "Siento que te haya pasado, vamos a arreglarlo.",
            "Puedo ayudarte con eso.",
            "",
        ] {
            assert!(!is_refusal(text), "{text}");
        }
    }
}
