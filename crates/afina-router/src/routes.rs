//! `routes.toml`: who can answer, and the rules that choose among them.
//!
//! ```toml
//! version = 1
//! default = "recepcion"            # the agent for a question that no rule claims
//! multi   = "first"                # first: one agent, by the first rule that matches; all: every agent whose rule
//!                                  # matches, in the order in which the question mentions them
//!
//! [models.tuned]                   # a model on a server that speaks OpenAI's API; the name is yours
//! url         = "http://127.0.0.1:8000/v1"
//! model       = "tuned"            # its id there
//! api_key_env = "MY_KEY"           # optional: the environment variable that holds the key
//!
//! [agents.facturacion]             # who answers; the name is what rules and reports call it
//! model       = "tuned"            # one of [models]
//! system      = "You are …"        # optional: its instructions
//! max_tokens  = 200                # optional: longest answer
//! temperature = 0.0                # optional, 0 to 2, default 0: the same question gets the same answer
//!
//! [[routes]]                       # tried in this order, before the model
//! agent = "facturacion"
//! when  = { words = ["factura", "VAT number"] }   # whole words, without case and accents
//!
//! [[routes]]
//! agent = "envios"
//! when  = { regex = '(?i)\border\s+\d+', mode = "search" }   # search (default): anywhere; match: at the start; full: all
//!
//! [route_model]                    # asked when no word or regex matched
//! model  = "tuned"
//! system = "Agente"                # optional
//! labels = ["facturacion", "envios", "recepcion"]   # names of agents; the most probable wins
//! min_probability = 0.0            # optional: below it, the model abstains and the default answers
//!
//! [limits]
//! steps = 8                        # optional: most model calls for one question
//! ```
//!
//! The model route scores each label as the whole answer, `Σ log p` of its tokens and of the end of the turn, unnormalized,
//! by `POST /score`. Unknown keys are errors; [`Routes::lint`] tells of everything at once.

use std::collections::BTreeMap;

use regex::Regex;
use toml::{Spanned, de::DeTable};

use crate::{
    fold,
    lint::{self, Draft, DraftAgent, DraftModel, DraftRoute, DraftRouteModel},
    problem::{Problem, Problems, Severity},
    toml_table::Table,
};

/// A routes file without errors.
#[derive(Debug, Clone)]
pub struct Routes {
    pub models: BTreeMap<String, ModelEntry>,
    pub agents: BTreeMap<String, Agent>,
    pub routes: Vec<Route>,
    pub route_model: Option<RouteModel>,
    /// Name of an agent.
    pub default: String,
    pub multi: Multi,
    pub limits: Limits,
}

/// `[models.NAME]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelEntry {
    pub url: String,
    pub model: String,
    pub api_key_env: Option<String>,
}

/// `[agents.NAME]`
#[derive(Debug, Clone, PartialEq)]
pub struct Agent {
    pub model: String,
    pub system: Option<String>,
    pub max_tokens: Option<usize>,
    pub temperature: f32,
}

/// `[[routes]]`
#[derive(Debug, Clone)]
pub struct Route {
    pub agent: String,
    pub when: When,
}

/// When a route matches.
#[derive(Debug, Clone)]
pub enum When {
    /// Any of the phrases is in the question.
    Words(Vec<Phrase>),
    /// The pattern, and the same compiled for its mode.
    Regex { pattern: String, mode: Mode, regex: Regex },
}

/// Words that must stand one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phrase {
    /// As in the file.
    pub text: String,
    /// Without case and accents, one by one.
    pub folded: Vec<String>,
}

/// How much of the question a regular expression must cover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Search,
    Match,
    Full,
}

/// `[route_model]`
#[derive(Debug, Clone, PartialEq)]
pub struct RouteModel {
    pub model: String,
    pub system: Option<String>,
    pub labels: Vec<String>,
    pub min_probability: f64,
}

/// How many agents may answer one question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Multi {
    First,
    All,
}

/// `[limits]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub steps: usize,
}

/// A routes file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the routes have {} errors, the first at line {}: {}", count(problems), first(problems).0, first(problems).1)]
pub struct RoutesError {
    /// Every problem, warnings included.
    pub problems: Vec<Problem>,
}

fn count(problems: &[Problem]) -> usize {
    problems.iter().filter(|problem| problem.severity == Severity::Error).count()
}

fn first(problems: &[Problem]) -> (usize, &str) {
    let error = problems.iter().find(|problem| problem.severity == Severity::Error);
    error.map_or((0, ""), |problem| (problem.line, &problem.message))
}

impl Routes {
    /// Reads a routes file; warnings are left to [`Routes::lint`].
    pub fn parse(text: &str) -> Result<Routes, RoutesError> {
        let (routes, problems) = Routes::lint(text);
        routes.ok_or(RoutesError { problems })
    }

    /// Everything that is wrong or looks wrong, in the order of the file; the routes too if there is no error.
    pub fn lint(text: &str) -> (Option<Routes>, Vec<Problem>) {
        let mut problems = Problems::new(text);
        let root = match DeTable::parse(text) {
            Ok(root) => root,
            Err(error) => {
                problems.error(&error.span().unwrap_or(0..0), "syntax", format!("not TOML: {}", error.message()), "");
                return (None, problems.into_list());
            }
        };
        let draft = read(&root, &mut problems);
        lint::check(&draft, &mut problems);
        let problems = problems.into_list();
        let usable = problems.iter().all(|problem| problem.severity != Severity::Error);
        (draft.into_routes().filter(|_| usable), problems)
    }
}

fn read(root: &Spanned<DeTable>, problems: &mut Problems) -> Draft {
    let known = ["version", "default", "multi", "models", "agents", "routes", "route_model", "limits"];
    // What is missing from the whole file is reported at its first line.
    let root = Table::open(root.get_ref(), 0..0, String::new(), &known, problems);
    match root.count("version", problems) {
        Some(1) | None if root.has("version") => {}
        Some(version) => {
            let message = format!("`version` is {version}, and this program knows 1");
            problems.error(&root.span, "wrong-value", message, "");
        }
        None => problems.error(&root.span, "missing-key", "missing key `version`".to_string(), "write `version = 1`"),
    }
    let default = root.string("default", problems);
    if !root.has("default") {
        let hint = "write `default = \"NAME\"`, the agent for questions that no rule claims";
        problems.error(&root.span, "missing-default", "missing key `default`".to_string(), hint);
    }
    let multi = choice(&root, "multi", &[("first", Multi::First), ("all", Multi::All)], problems);
    let models = root.named("models", &["url", "model", "api_key_env"], problems);
    let agents = root.named("agents", &["model", "system", "max_tokens", "temperature"], problems);
    let routes = root.tables("routes", &["agent", "when"], problems);
    let route_model = root.table("route_model", &["model", "system", "labels", "min_probability"], problems);
    let limits = root.table("limits", &["steps"], problems);
    Draft {
        default,
        multi: multi.unwrap_or(Multi::First),
        models: models.into_iter().map(|(name, table)| read_model(name, &table, problems)).collect(),
        agents: agents.into_iter().map(|(name, table)| read_agent(name, &table, problems)).collect(),
        routes: routes.iter().map(|table| read_route(table, problems)).collect(),
        route_model: route_model.map(|table| read_route_model(&table, problems)),
        steps: limits.and_then(|limits| limits.count("steps", problems)).unwrap_or(8),
    }
}

fn read_model(name: Spanned<String>, table: &Table, problems: &mut Problems) -> DraftModel {
    let url = table.required("url", problems);
    if let Some(url) =
        url.as_ref().filter(|url| !url.get_ref().starts_with("http://") && !url.get_ref().starts_with("https://"))
    {
        let message =
            format!("`{}.url` must begin with `http://` or `https://`, found `{}`", table.name, url.get_ref());
        problems.error(&url.span(), "wrong-value", message, "a local server is `http://127.0.0.1:8000/v1`");
    }
    let model = table.required("model", problems);
    let api_key_env = table.string("api_key_env", problems).map(Spanned::into_inner);
    let entry =
        url.zip(model).map(|(url, model)| ModelEntry { url: url.into_inner(), model: model.into_inner(), api_key_env });
    DraftModel { name, entry }
}

fn read_agent(name: Spanned<String>, table: &Table, problems: &mut Problems) -> DraftAgent {
    if !table.has("model") {
        let message = format!("agent `{}` has no `model`", name.get_ref());
        problems.error(&name.span(), "agent-without-model", message, "name one of [models]");
    }
    DraftAgent {
        name,
        model: table.string("model", problems),
        system: table.string("system", problems).map(Spanned::into_inner),
        max_tokens: table.count("max_tokens", problems),
        temperature: table.number("temperature", 0.0, 2.0, problems).unwrap_or(0.0) as f32,
    }
}

fn read_route(table: &Table, problems: &mut Problems) -> DraftRoute {
    let agent = table.required("agent", problems);
    let route = |when| DraftRoute { agent, when, span: table.span.clone() };
    if !table.has("when") {
        let message = format!("missing key `{}.when`", table.name);
        problems.error(&table.span, "missing-key", message, "write `when = { words = [\"…\"] }`");
    }
    let Some(when) = table.table("when", &["words", "regex", "mode"], problems) else { return route(None) };
    if when.has("words") == when.has("regex") {
        let message = format!("`{}` needs either `words` or `regex`", when.name);
        problems.error(&when.span, "wrong-value", message, "two rules are two [[routes]]");
        return route(None);
    }
    if when.has("words") {
        if when.has("mode") {
            let message = format!("`{}.mode` goes with `regex`, not with `words`", when.name);
            problems.error(&when.span, "wrong-value", message, "words always match anywhere, as whole words");
        }
        let words = when.strings("words", problems);
        return route(words.and_then(|words| read_words(&when, &words, problems)));
    }
    let modes = [("search", Mode::Search), ("match", Mode::Match), ("full", Mode::Full)];
    let mode = choice(&when, "mode", &modes, problems).unwrap_or(Mode::Search);
    let pattern = when.string("regex", problems);
    route(pattern.and_then(|pattern| read_regex(&pattern, mode, problems)))
}

fn read_words(when: &Table, words: &[Spanned<String>], problems: &mut Problems) -> Option<When> {
    if words.is_empty() {
        problems.error(&when.span, "empty-words", format!("`{}.words` is empty", when.name), "");
        return None;
    }
    let mut phrases = Vec::new();
    for word in words {
        let folded: Vec<String> = fold::words(word.get_ref()).into_iter().map(|word| word.folded).collect();
        if folded.is_empty() {
            let message = format!("`{}` has no letter and no digit, so it matches nothing", word.get_ref());
            problems.error(&word.span(), "empty-words", message, "use `regex` for signs");
            return None;
        }
        phrases.push(Phrase { text: word.get_ref().clone(), folded });
    }
    Some(When::Words(phrases))
}

fn read_regex(pattern: &Spanned<String>, mode: Mode, problems: &mut Problems) -> Option<When> {
    let text = pattern.get_ref();
    if let Err(error) = regex_syntax::Parser::new().parse(text) {
        let (what, at) = match &error {
            regex_syntax::Error::Parse(error) => (error.kind().to_string(), error.span().start),
            regex_syntax::Error::Translate(error) => (error.kind().to_string(), error.span().start),
            other => (other.to_string(), regex_syntax::ast::Position::new(0, 1, 1)),
        };
        let character = text[..at.offset].chars().count() + 1;
        let message = format!("invalid regex, character {character}: {what}");
        problems.error(
            &pattern.span(),
            "invalid-regex",
            message,
            "quote it with '…', where a backslash is a backslash",
        );
        return None;
    }
    let anchored = match mode {
        Mode::Search => text.clone(),
        Mode::Match => format!(r"\A(?:{text})"),
        Mode::Full => format!(r"\A(?:{text})\z"),
    };
    match Regex::new(&anchored) {
        Ok(regex) => Some(When::Regex { pattern: text.clone(), mode, regex }),
        Err(error) => {
            problems.error(&pattern.span(), "invalid-regex", format!("invalid regex: {error}"), "");
            None
        }
    }
}

fn read_route_model(table: &Table, problems: &mut Problems) -> DraftRouteModel {
    if !table.has("labels") {
        let message = "missing key `route_model.labels`".to_string();
        problems.error(&table.span, "missing-key", message, "name the agents that the model chooses among");
    }
    DraftRouteModel {
        span: table.span.clone(),
        model: table.required("model", problems),
        system: table.string("system", problems).map(Spanned::into_inner),
        labels: table.strings("labels", problems),
        min_probability: table.number("min_probability", 0.0, 1.0, problems).unwrap_or(0.0),
    }
}

/// One of a few words.
fn choice<T: Copy>(table: &Table, key: &str, choices: &[(&str, T)], problems: &mut Problems) -> Option<T> {
    let word = table.string(key, problems)?;
    let chosen = choices.iter().find(|(name, _)| name == word.get_ref());
    if chosen.is_none() {
        let known: Vec<String> = choices.iter().map(|(name, _)| format!("`{name}`")).collect();
        let message = format!("`{key}` must be one of {}, found `{}`", known.join(", "), word.get_ref());
        problems.error(&word.span(), "wrong-value", message, "");
    }
    chosen.map(|&(_, value)| value)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::{
        decide::{Reason, decide},
        ledger::Ledger,
    };

    const SHIPPED: &str = include_str!("../../../data/router/routes.toml");
    const SHIPPED_WORDS: &str = include_str!("../../../data/router/routes-words.toml");

    #[test]
    fn the_shipped_files_have_no_problem() {
        for text in [SHIPPED, SHIPPED_WORDS] {
            let (routes, problems) = Routes::lint(text);
            assert!(routes.is_some() && problems.is_empty(), "{problems:?}");
        }
    }

    #[test]
    fn the_quickstarts_file_leaves_every_decision_to_the_model() {
        let routes = Routes::parse(SHIPPED).unwrap();
        assert!(routes.routes.is_empty());
        let route = routes.route_model.unwrap();
        assert_eq!((route.system.as_deref(), route.min_probability), (Some("Agente"), 0.0));
        assert_eq!(route.labels, ["soporte", "ventas", "facturacion", "envios", "legal", "recepcion"]);
        assert_eq!(routes.agents.keys().collect::<Vec<_>>(), {
            let mut labels: Vec<&String> = route.labels.iter().collect();
            labels.sort();
            labels
        });
    }

    #[test]
    fn the_rules_of_the_example_do_what_its_comments_say() {
        let routes = Routes { route_model: None, ..Routes::parse(SHIPPED_WORDS).unwrap() };
        for (question, agents, reason) in [
            ("¿Y el pedido 4711? Además quiero la factura", vec!["envios", "facturacion"], Reason::Regex),
            ("FACTURACION, por favor", vec!["facturacion"], Reason::Word),
            ("Order no. 12345 never came", vec!["envios"], Reason::Regex),
            ("mi abogada pregunta por la protección de datos", vec!["legal"], Reason::Word),
            ("¡Hola!", vec!["recepcion"], Reason::Regex),
            ("Hola, no me funciona el wifi", vec!["recepcion"], Reason::Default),
        ] {
            let decision = decide(&routes, &crate::Clients::new(), question, &mut Ledger::default()).unwrap();
            assert_eq!((decision.agents, decision.reason), (agents.into_iter().map(String::from).collect(), reason));
        }
    }

    #[test]
    fn every_key_of_the_documentation_is_read() {
        let docs = include_str!("routes.rs").lines().map_while(|line| line.strip_prefix("//!"));
        let toml: Vec<&str> =
            docs.skip_while(|line| *line != " ```toml").skip(1).take_while(|line| *line != " ```").collect();
        let agents = "\n[agents.envios]\nmodel = \"tuned\"\n[agents.recepcion]\nmodel = \"tuned\"\n";
        let (routes, problems) = Routes::lint(&(toml.join("\n") + agents));
        assert_eq!(problems, []);
        let routes = routes.unwrap();
        assert_eq!(routes.models["tuned"].api_key_env.as_deref(), Some("MY_KEY"));
        assert_eq!(routes.agents["facturacion"].max_tokens, Some(200));
        assert_eq!((routes.routes.len(), routes.limits.steps), (2, 8));
    }

    #[test]
    fn an_unusable_file_says_how_many_errors_it_has_and_the_first() {
        let error = Routes::parse("version = 2\n").unwrap_err();
        expect!["the routes have 2 errors, the first at line 1: `version` is 2, and this program knows 1"]
            .assert_eq(&error.to_string());
    }
}
