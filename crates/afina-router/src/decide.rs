//! A question becomes a decision: which agents, by which rule, and why.

use afina_chat::{Conversation, Message, Role};
use serde::Serialize;

use crate::{
    client::{ClientError, Clients},
    fold::{self, Word},
    ledger::{Ledger, Purpose},
    routes::{Multi, Route, RouteModel, Routes, When},
};

/// Who answers, and how that came about.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Decision {
    /// At least one; several only with `multi = "all"`, in the order in which the question mentions them.
    pub agents: Vec<String>,
    pub reason: Reason,
    /// The rule that won: `routes[2]`, `route_model` or `default`.
    pub rule: String,
    /// What the rule matched, where it matched a part of the question.
    pub span: Option<Span>,
    /// The model's scores, best first, if it was asked.
    pub scores: Option<Vec<LabelScore>>,
    /// Every rule that was tried, in order.
    pub trace: Vec<TraceStep>,
}

/// The kind of rule that won.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    Word,
    Regex,
    Model,
    Default,
}

/// A part of the question; `start` and `end` in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Span {
    pub start: usize,
    pub end: usize,
    pub text: String,
}

/// What the model thinks of a label.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LabelScore {
    pub label: String,
    /// Sum over the label's tokens and the end of the turn, in nats.
    pub logprob: f64,
    /// Softmax of `logprob` among the labels.
    pub probability: f64,
}

/// One rule, and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TraceStep {
    pub rule: String,
    pub reason: Reason,
    /// Where the rule leads; the model's choice for a model route.
    pub agent: String,
    pub outcome: Outcome,
}

/// What came of a rule.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Outcome {
    NoMatch,
    Matched {
        span: Span,
    },
    /// The model chose this label with this probability.
    Chose {
        probability: f64,
    },
    /// The model's best label was below `min_probability`.
    Abstained {
        probability: f64,
        min_probability: f64,
    },
    /// No rule claimed the question.
    FellThrough,
}

/// Why a question could not be routed or answered.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    #[error("no client for model `{model}`")]
    NoClient { model: String },
    #[error("failed to ask model `{model}`")]
    Client { model: String, source: ClientError },
    #[error("model `{model}` gave label `{label}` the log-probability {logprob}, expected a number of at most 0")]
    Score { model: String, label: String, logprob: f64 },
    #[error("the question needs {needed} model calls, and `limits.steps` allows {steps}")]
    Steps { needed: usize, steps: usize },
}

/// Tries word and regex routes in order, then the model, then falls back to the default agent.
///
/// An empty question goes to the default without a call. A model that cannot be asked is an error, not the default.
pub fn decide(routes: &Routes, clients: &Clients, question: &str, ledger: &mut Ledger) -> Result<Decision, RouteError> {
    let mut trace = Vec::new();
    if question.trim().is_empty() {
        return Ok(fall_back(routes, None, trace));
    }
    let words = fold::words(question);
    let mut matches: Vec<(Span, usize)> = Vec::new();
    for (index, route) in routes.routes.iter().enumerate() {
        let span = match_route(route, question, &words).map(|(start, end)| span(question, start, end));
        let outcome = span.clone().map_or(Outcome::NoMatch, |span| Outcome::Matched { span });
        let (rule, agent) = (rule_name(index), route.agent.clone());
        trace.push(TraceStep { rule, reason: reason(route), agent, outcome });
        matches.extend(span.map(|span| (span, index)));
        if routes.multi == Multi::First && !matches.is_empty() {
            break;
        }
    }
    matches.sort_by_key(|(span, index)| (span.start, *index));
    if let Some((span, index)) = matches.first().cloned() {
        let mut agents: Vec<String> = Vec::new();
        for (_, index) in matches {
            let agent = &routes.routes[index].agent;
            if !agents.contains(agent) {
                agents.push(agent.clone());
            }
        }
        let (reason, rule) = (reason(&routes.routes[index]), rule_name(index));
        return Ok(Decision { agents, reason, rule, span: Some(span), scores: None, trace });
    }
    let Some(route) = &routes.route_model else { return Ok(fall_back(routes, None, trace)) };
    let scores = ask(routes, route, clients, question, ledger)?;
    let LabelScore { label, probability, .. } = scores[0].clone();
    let abstained = probability < route.min_probability;
    let outcome = match abstained {
        true => Outcome::Abstained { probability, min_probability: route.min_probability },
        false => Outcome::Chose { probability },
    };
    let rule = "route_model".to_string();
    trace.push(TraceStep { rule: rule.clone(), reason: Reason::Model, agent: label.clone(), outcome });
    if abstained {
        return Ok(fall_back(routes, Some(scores), trace));
    }
    Ok(Decision { agents: vec![label], reason: Reason::Model, rule, span: None, scores: Some(scores), trace })
}

fn fall_back(routes: &Routes, scores: Option<Vec<LabelScore>>, mut trace: Vec<TraceStep>) -> Decision {
    let (rule, agent) = ("default".to_string(), routes.default.clone());
    trace.push(TraceStep {
        rule: rule.clone(),
        reason: Reason::Default,
        agent: agent.clone(),
        outcome: Outcome::FellThrough,
    });
    Decision { agents: vec![agent], reason: Reason::Default, rule, span: None, scores, trace }
}

/// Where a route matches, in bytes: the phrase that stands first in the question, or the regex's first match.
fn match_route(route: &Route, question: &str, words: &[Word]) -> Option<(usize, usize)> {
    match &route.when {
        When::Words(phrases) => {
            phrases.iter().filter_map(|phrase| fold::find_phrase(question, words, &phrase.folded)).min()
        }
        When::Regex { regex, .. } => regex.find(question).map(|found| (found.start(), found.end())),
    }
}

/// Scores the labels after the question; best first, and of equals the one that the file names first.
fn ask(
    routes: &Routes,
    route: &RouteModel,
    clients: &Clients,
    question: &str,
    ledger: &mut Ledger,
) -> Result<Vec<LabelScore>, RouteError> {
    check_steps(routes, ledger, 1)?;
    let model = || route.model.clone();
    let client = clients.get(&route.model).ok_or_else(|| RouteError::NoClient { model: model() })?;
    let id = &routes.models[&route.model].model;
    let conversation = conversation(route.system.as_deref(), question);
    let reply = client
        .score(id, &conversation, &route.labels)
        .map_err(|source| RouteError::Client { model: model(), source })?;
    ledger.add(Purpose::Route, &route.model, reply.usage);
    if let Some((label, &logprob)) =
        route.labels.iter().zip(&reply.logprobs).find(|(_, logprob)| logprob.is_nan() || **logprob > 0.0)
    {
        return Err(RouteError::Score { model: model(), label: label.clone(), logprob });
    }
    let probabilities = softmax(&reply.logprobs);
    let mut scores: Vec<LabelScore> = route
        .labels
        .iter()
        .zip(reply.logprobs.iter().zip(probabilities))
        .map(|(label, (&logprob, probability))| LabelScore { label: label.clone(), logprob, probability })
        .collect();
    scores.sort_by(|a, b| b.logprob.total_cmp(&a.logprob));
    Ok(scores)
}

/// Refuses a call beyond the limit before it is made.
pub(crate) fn check_steps(routes: &Routes, ledger: &Ledger, calls: usize) -> Result<(), RouteError> {
    let needed = ledger.calls.len() + calls;
    let steps = routes.limits.steps;
    if needed > steps { Err(RouteError::Steps { needed, steps }) } else { Ok(()) }
}

/// A question behind its instructions.
pub(crate) fn conversation(system: Option<&str>, question: &str) -> Conversation {
    let system = system.map(|system| Message::new(Role::System, system));
    Conversation {
        messages: system.into_iter().chain([Message::new(Role::User, question)]).collect(),
        tools: None,
        parallel_tool_calls: None,
    }
}

fn softmax(logprobs: &[f64]) -> Vec<f64> {
    let best = logprobs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if best == f64::NEG_INFINITY {
        return vec![1.0 / logprobs.len() as f64; logprobs.len()];
    }
    let weights: Vec<f64> = logprobs.iter().map(|logprob| (logprob - best).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / sum).collect()
}

fn reason(route: &Route) -> Reason {
    match route.when {
        When::Words(_) => Reason::Word,
        When::Regex { .. } => Reason::Regex,
    }
}

fn rule_name(index: usize) -> String {
    format!("routes[{index}]")
}

fn span(question: &str, start: usize, end: usize) -> Span {
    Span { start, end, text: question[start..end].to_string() }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::{
        explain::explain,
        testing::{Scripted, clients, routes},
    };

    const RULES: &str = r#"
        [[routes]]
        agent = "ventas"
        when = { words = ["precio", "cuánto cuesta"] }
        [[routes]]
        agent = "envios"
        when = { regex = '(?i)\bpedido\s+\d+' }
        [[routes]]
        agent = "envios"
        when = { regex = 'cancelar', mode = "match" }
        [[routes]]
        agent = "legal"
        when = { regex = '[A-Z]{2}\d+', mode = "full" }
    "#;
    const MODEL: &str =
        "[route_model]\nmodel = \"m\"\nsystem = \"Elige.\"\nlabels = [\"legal\", \"ventas\", \"envios\"]\n";

    fn check(toml: &str, scripted: Scripted, question: &str, expected: Expect) {
        let decision = decide(&routes(toml), &clients(scripted), question, &mut Ledger::default()).unwrap();
        expected.assert_eq(&explain(&decision));
    }

    #[test]
    fn the_first_rule_that_matches_wins() {
        check(
            RULES,
            Scripted::new(),
            "¿CUANTO CUESTA mi pedido 12?",
            expect![[r#"
            routes[0] words → ventas: matched `CUANTO CUESTA` at bytes 2..15
            → ventas (by routes[0])"#]],
        );
        check(
            RULES,
            Scripted::new(),
            "mi pedido 12",
            expect![[r#"
            routes[0] words → ventas: no match
            routes[1] regex → envios: matched `pedido 12` at bytes 3..12
            → envios (by routes[1])"#]],
        );
    }

    #[test]
    fn a_regex_covers_as_much_as_its_mode_says() {
        check(
            RULES,
            Scripted::new(),
            "cancelar ya",
            expect![[r#"
            routes[0] words → ventas: no match
            routes[1] regex → envios: no match
            routes[2] regex → envios: matched `cancelar` at bytes 0..8
            → envios (by routes[2])"#]],
        );
        check(
            RULES,
            Scripted::new(),
            "quiero cancelar",
            expect![[r#"
            routes[0] words → ventas: no match
            routes[1] regex → envios: no match
            routes[2] regex → envios: no match
            routes[3] regex → legal: no match
            default → recepcion: no rule claimed the question
            → recepcion (by default)"#]],
        );
        check(
            RULES,
            Scripted::new(),
            "AB12",
            expect![[r#"
            routes[0] words → ventas: no match
            routes[1] regex → envios: no match
            routes[2] regex → envios: no match
            routes[3] regex → legal: matched `AB12` at bytes 0..4
            → legal (by routes[3])"#]],
        );
        check(
            RULES,
            Scripted::new(),
            "AB12 y más",
            expect![[r#"
            routes[0] words → ventas: no match
            routes[1] regex → envios: no match
            routes[2] regex → envios: no match
            routes[3] regex → legal: no match
            default → recepcion: no rule claimed the question
            → recepcion (by default)"#]],
        );
    }

    #[test]
    fn with_multi_all_agents_come_in_the_order_of_mention() {
        let toml = format!("multi = \"all\"\n{RULES}");
        check(
            &toml,
            Scripted::new(),
            "El pedido 7, ¿y qué precio tiene el pedido 8?",
            expect![[r#"
            routes[0] words → ventas: matched `precio` at bytes 22..28
            routes[1] regex → envios: matched `pedido 7` at bytes 3..11
            routes[2] regex → envios: no match
            routes[3] regex → legal: no match
            → envios, ventas (by routes[1])"#]],
        );
    }

    #[test]
    fn the_model_is_asked_when_no_rule_matched() {
        let scripted = Scripted::new().scores([-3.0, -1.0, -2.0]);
        check(
            &format!("{RULES}{MODEL}"),
            scripted,
            "¿y esto?",
            expect![[r#"
            routes[0] words → ventas: no match
            routes[1] regex → envios: no match
            routes[2] regex → envios: no match
            routes[3] regex → legal: no match
            route_model model → ventas: chosen with p = 0.665
                ventas         log p =    -1.000   p = 0.665
                envios         log p =    -2.000   p = 0.245
                legal          log p =    -3.000   p = 0.090
            → ventas (by route_model)"#]],
        );
    }

    #[test]
    fn of_equal_labels_the_first_in_the_file_wins() {
        check(
            MODEL,
            Scripted::new().scores([-1.0, -1.0, -1.0]),
            "¿y esto?",
            expect![[r#"
            route_model model → legal: chosen with p = 0.333
                legal          log p =    -1.000   p = 0.333
                ventas         log p =    -1.000   p = 0.333
                envios         log p =    -1.000   p = 0.333
            → legal (by route_model)"#]],
        );
    }

    #[test]
    fn a_model_that_is_not_sure_leaves_it_to_the_default() {
        let toml = format!("{MODEL}min_probability = 0.7");
        check(
            &toml,
            Scripted::new().scores([-3.0, -1.0, -2.0]),
            "¿y esto?",
            expect![[r#"
            route_model model → ventas: abstained: p = 0.665 is below 0.7
            default → recepcion: no rule claimed the question
                ventas         log p =    -1.000   p = 0.665
                envios         log p =    -2.000   p = 0.245
                legal          log p =    -3.000   p = 0.090
            → recepcion (by default)"#]],
        );
    }

    #[test]
    fn an_empty_question_goes_to_the_default_without_a_call() {
        let mut ledger = Ledger::default();
        let decision = decide(&routes(MODEL), &clients(Scripted::new()), " \n", &mut ledger).unwrap();
        assert_eq!((decision.agents, decision.reason), (vec!["recepcion".to_string()], Reason::Default));
        assert!(ledger.calls.is_empty());
    }

    #[test]
    fn the_routing_call_has_its_short_system_text_and_is_in_the_ledger() {
        let scripted = Scripted::new().scores([-3.0, -1.0, -2.0]);
        let seen = scripted.seen();
        let mut ledger = Ledger::default();
        decide(&routes(MODEL), &clients(scripted), "¿y esto?", &mut ledger).unwrap();
        assert_eq!(seen.borrow()[..], ["score id-of-m system:Elige. user:¿y esto? [legal|ventas|envios]"]);
        assert_eq!((ledger.calls.len(), &ledger.calls[0].purpose), (1, &Purpose::Route));
    }

    #[test]
    fn scores_that_are_no_log_probabilities_are_refused() {
        for wrong in [f64::NAN, 0.5] {
            let scripted = Scripted::new().scores([-3.0, wrong, -2.0]);
            let error = decide(&routes(MODEL), &clients(scripted), "x", &mut Ledger::default()).unwrap_err();
            assert!(matches!(error, RouteError::Score { label, .. } if label == "ventas"));
        }
    }

    #[test]
    fn a_model_that_fails_is_an_error_and_not_the_default() {
        let error = decide(&routes(MODEL), &clients(Scripted::new()), "x", &mut Ledger::default()).unwrap_err();
        assert_eq!(error.to_string(), "failed to ask model `m`");
    }

    #[test]
    fn softmax_sums_to_one_even_far_below_zero() {
        let probabilities = softmax(&[-1000.0, -1001.0, f64::NEG_INFINITY]);
        assert!((probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-12 && probabilities[2] == 0.0);
        assert!((probabilities[0] / probabilities[1] - 1.0_f64.exp()).abs() < 1e-12);
    }
}
