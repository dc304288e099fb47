//! What no single key shows: names that lead nowhere, names that collide, rules that can never win.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use toml::Spanned;

use crate::{
    fold::fold,
    problem::{Problems, did_you_mean},
    routes::{Agent, Limits, Mode, ModelEntry, Multi, Phrase, Route, RouteModel, Routes, When},
};

/// A routes file as far as it could be read, with the places of its names.
pub(crate) struct Draft {
    pub(crate) default: Option<Spanned<String>>,
    pub(crate) multi: Multi,
    pub(crate) models: Vec<DraftModel>,
    pub(crate) agents: Vec<DraftAgent>,
    pub(crate) routes: Vec<DraftRoute>,
    pub(crate) route_model: Option<DraftRouteModel>,
    pub(crate) steps: usize,
}

pub(crate) struct DraftModel {
    pub(crate) name: Spanned<String>,
    pub(crate) entry: Option<ModelEntry>,
}

pub(crate) struct DraftAgent {
    pub(crate) name: Spanned<String>,
    pub(crate) model: Option<Spanned<String>>,
    pub(crate) system: Option<String>,
    pub(crate) max_tokens: Option<usize>,
    pub(crate) temperature: f32,
}

pub(crate) struct DraftRoute {
    pub(crate) agent: Option<Spanned<String>>,
    pub(crate) when: Option<When>,
    pub(crate) span: Range<usize>,
}

pub(crate) struct DraftRouteModel {
    pub(crate) span: Range<usize>,
    pub(crate) model: Option<Spanned<String>>,
    pub(crate) system: Option<String>,
    pub(crate) labels: Option<Vec<Spanned<String>>>,
    pub(crate) min_probability: f64,
}

impl Draft {
    /// The routes, if nothing that they need is missing.
    pub(crate) fn into_routes(self) -> Option<Routes> {
        let models = self.models.into_iter().map(|model| Some((model.name.into_inner(), model.entry?)));
        let agents = self.agents.into_iter().map(|agent| {
            let DraftAgent { name, model, system, max_tokens, temperature } = agent;
            Some((name.into_inner(), Agent { model: model?.into_inner(), system, max_tokens, temperature }))
        });
        let routes =
            self.routes.into_iter().map(|route| Some(Route { agent: route.agent?.into_inner(), when: route.when? }));
        let route_model = match self.route_model {
            None => None,
            Some(route) => Some(RouteModel {
                model: route.model?.into_inner(),
                system: route.system,
                labels: route.labels?.into_iter().map(Spanned::into_inner).collect(),
                min_probability: route.min_probability,
            }),
        };
        Some(Routes {
            models: models.collect::<Option<BTreeMap<_, _>>>()?,
            agents: agents.collect::<Option<BTreeMap<_, _>>>()?,
            routes: routes.collect::<Option<Vec<_>>>()?,
            route_model,
            default: self.default?.into_inner(),
            multi: self.multi,
            limits: Limits { steps: self.steps },
        })
    }
}

/// Looks for everything that can be decided without a question.
pub(crate) fn check(draft: &Draft, problems: &mut Problems) {
    check_names(draft, problems);
    check_unused(draft, problems);
    check_labels(draft, problems);
    check_words(draft, problems);
    check_shadows(draft, problems);
}

/// Every name that is used is defined, and no two agents differ by case or accents alone.
fn check_names(draft: &Draft, problems: &mut Problems) {
    let agents: Vec<&str> = draft.agents.iter().map(|agent| agent.name.get_ref().as_str()).collect();
    let models: Vec<&str> = draft.models.iter().map(|model| model.name.get_ref().as_str()).collect();
    for name in used_agents(draft).filter(|name| !agents.contains(&name.get_ref().as_str())) {
        let hint = did_you_mean(name.get_ref(), agents.iter().copied());
        problems.error(&name.span(), "unknown-agent", format!("no [agents.{}]", name.get_ref()), hint);
    }
    for name in used_models(draft).filter(|name| !models.contains(&name.get_ref().as_str())) {
        let hint = did_you_mean(name.get_ref(), models.iter().copied());
        problems.error(&name.span(), "unknown-model", format!("no [models.{}]", name.get_ref()), hint);
    }
    let mut folded = BTreeMap::new();
    for agent in &draft.agents {
        let name = agent.name.get_ref();
        if let Some(other) = folded.insert(fold(name), name) {
            let message = format!("agents `{other}` and `{name}` differ by case or accents alone");
            problems.error(&agent.name.span(), "duplicate-agent", message, "rename one of them");
        }
    }
}

fn check_unused(draft: &Draft, problems: &mut Problems) {
    let used: BTreeSet<&str> = used_agents(draft).map(|name| name.get_ref().as_str()).collect();
    for agent in draft.agents.iter().filter(|agent| !used.contains(agent.name.get_ref().as_str())) {
        let message = format!("no route leads to agent `{}`", agent.name.get_ref());
        problems.warning(&agent.name.span(), "unused-agent", message, "");
    }
    let used: BTreeSet<&str> = used_models(draft).map(|name| name.get_ref().as_str()).collect();
    for model in draft.models.iter().filter(|model| !used.contains(model.name.get_ref().as_str())) {
        let message = format!("nothing uses model `{}`", model.name.get_ref());
        problems.warning(&model.name.span(), "unused-model", message, "");
    }
    if draft.routes.is_empty() && draft.route_model.is_none() {
        let message = "no [[routes]] and no [route_model]: every question goes to the default".to_string();
        problems.warning(&(0..0), "no-rules", message, "");
    }
}

fn check_labels(draft: &Draft, problems: &mut Problems) {
    let Some(route) = &draft.route_model else { return };
    let Some(labels) = &route.labels else { return };
    let mut seen = BTreeMap::new();
    for label in labels {
        if let Some(other) = seen.insert(fold(label.get_ref()), label.get_ref()) {
            let message = format!("labels `{other}` and `{}` are the same", label.get_ref());
            problems.error(&label.span(), "duplicate-label", message, "");
        }
    }
    if labels.is_empty() {
        problems.error(&route.span, "wrong-value", "`route_model.labels` is empty".to_string(), "");
    } else if labels.len() == 1 {
        let message = "`route_model.labels` has one label, so the model has no choice".to_string();
        problems.warning(&route.span, "one-label", message, "");
    }
}

/// The same word twice in a rule, whatever the mode.
fn check_words(draft: &Draft, problems: &mut Problems) {
    for route in &draft.routes {
        let Some(When::Words(phrases)) = &route.when else { continue };
        let mut seen: BTreeMap<&[String], &str> = BTreeMap::new();
        for phrase in phrases {
            if let Some(other) = seen.insert(&phrase.folded, &phrase.text) {
                let message = format!("`{other}` and `{}` are the same without case and accents", phrase.text);
                problems.warning(&route.span, "duplicate-word", message, "delete one of them");
            }
        }
    }
}

/// Rules that can never win because an earlier one always does.
fn check_shadows(draft: &Draft, problems: &mut Problems) {
    let mut takes_all: Option<usize> = None;
    for (index, route) in draft.routes.iter().enumerate() {
        let earlier = &draft.routes[..index];
        if let (Multi::First, Some(first)) = (draft.multi, takes_all) {
            let message = format!("never tried: routes[{first}] matches every question");
            problems.warning(&route.span, "shadowed-route", message, "");
        } else if draft.multi == Multi::First {
            check_shadow(index, route, earlier, problems);
        }
        if takes_all.is_none() && route.when.as_ref().is_some_and(matches_everything) {
            takes_all = Some(index);
        }
    }
    if let (Some(first), Some(route)) = (takes_all, &draft.route_model) {
        let message = format!("never asked: routes[{first}] matches every question");
        problems.warning(&route.span, "shadowed-route", message, "");
    }
}

fn check_shadow(index: usize, route: &DraftRoute, earlier: &[DraftRoute], problems: &mut Problems) {
    match &route.when {
        Some(When::Words(phrases)) => {
            let covers: Vec<Option<(usize, &Phrase)>> = phrases.iter().map(|phrase| cover(phrase, earlier)).collect();
            let all = covers.iter().all(Option::is_some);
            if all && let Some(Some((first, _))) = covers.first() {
                let message =
                    format!("routes[{index}] never wins: routes[{first}] and others before it take its words");
                problems.warning(&route.span, "shadowed-route", message, "put the more particular rule first");
                return;
            }
            for (phrase, cover) in phrases.iter().zip(covers) {
                let Some((first, by)) = cover else { continue };
                let message = format!("`{}` never wins here: routes[{first}] takes `{}`", phrase.text, by.text);
                problems.warning(&route.span, "duplicate-word", message, "put the more particular rule first");
            }
        }
        Some(When::Regex { pattern, mode, .. }) => {
            let same = |other: &DraftRoute| matches!(&other.when, Some(When::Regex { pattern: p, mode: m, .. }) if p == pattern && m == mode);
            if let Some(first) = earlier.iter().position(same) {
                let message = format!("routes[{index}] never wins: routes[{first}] has the same regex");
                problems.warning(&route.span, "shadowed-route", message, "");
            }
        }
        None => {}
    }
}

/// An earlier phrase that is part of this one, so that it matches wherever this one does.
fn cover<'d>(phrase: &Phrase, earlier: &'d [DraftRoute]) -> Option<(usize, &'d Phrase)> {
    earlier.iter().enumerate().find_map(|(index, route)| {
        let Some(When::Words(phrases)) = &route.when else { return None };
        let part = |other: &&Phrase| phrase.folded.windows(other.folded.len()).any(|window| window == other.folded);
        phrases.iter().find(part).map(|other| (index, other))
    })
}

/// Whether a regex matches the empty string wherever it is tried. Said of `full` only where that needs no thought.
fn matches_everything(when: &When) -> bool {
    let When::Regex { pattern, mode, .. } = when else { return false };
    match mode {
        Mode::Full => pattern == "(?s).*",
        Mode::Search | Mode::Match => regex_syntax::Parser::new()
            .parse(pattern)
            .is_ok_and(|hir| hir.properties().minimum_len() == Some(0) && hir.properties().look_set().is_empty()),
    }
}

fn used_agents(draft: &Draft) -> impl Iterator<Item = &Spanned<String>> {
    let labels = draft.route_model.iter().filter_map(|route| route.labels.as_ref()).flatten();
    draft.default.iter().chain(draft.routes.iter().filter_map(|route| route.agent.as_ref())).chain(labels)
}

fn used_models(draft: &Draft) -> impl Iterator<Item = &Spanned<String>> {
    let agents = draft.agents.iter().filter_map(|agent| agent.model.as_ref());
    agents.chain(draft.route_model.iter().filter_map(|route| route.model.as_ref()))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use crate::routes::Routes;

    /// Lints a file with the usual beginning, two agents and a model, and what is given behind it.
    fn check(more: &str, expected: Expect) {
        let text = format!(
            "version = 1\ndefault = \"a\"\n{more}\n[models.m]\nurl = \"http://localhost/v1\"\nmodel = \"m\"\n\
             [agents.a]\nmodel = \"m\"\n[agents.b]\nmodel = \"m\"\n"
        );
        let problems: Vec<String> = Routes::lint(&text).1.iter().map(ToString::to_string).collect();
        expected.assert_eq(&problems.join("\n"));
    }

    #[test]
    fn a_good_file_has_no_problem() {
        check("[[routes]]\nagent = \"b\"\nwhen = { words = [\"b\"] }", expect![""]);
    }

    #[test]
    fn names_that_lead_nowhere_are_errors() {
        check(
            "[[routes]]\nagent = \"bb\"\nwhen = { words = [\"b\"] }\n[agents.c]\nmodel = \"n\"\n[agents.d]\n\
             [route_model]\nmodel = \"m\"\nlabels = [\"a\", \"zzz\"]",
            expect![[r#"
                4:9: error[unknown-agent]: no [agents.bb]
                  hint: did you mean `b`?
                6:9: warning[unused-agent]: no route leads to agent `c`
                7:9: error[unknown-model]: no [models.n]
                  hint: did you mean `m`?
                8:9: error[agent-without-model]: agent `d` has no `model`
                  hint: name one of [models]
                8:9: warning[unused-agent]: no route leads to agent `d`
                11:16: error[unknown-agent]: no [agents.zzz]
                17:9: warning[unused-agent]: no route leads to agent `b`"#]],
        );
    }

    #[test]
    fn names_that_differ_by_accents_alone_collide() {
        check(
            "[[routes]]\nagent = \"Á\"\nwhen = { words = [\"x\", \"b\"] }\n[agents.\"Á\"]\nmodel = \"m\"\n\
             [route_model]\nmodel = \"m\"\nlabels = [\"a\", \"b\", \"B\"]",
            expect![[r#"
                6:9: error[duplicate-agent]: agents `a` and `Á` differ by case or accents alone
                  hint: rename one of them
                10:21: error[unknown-agent]: no [agents.B]
                  hint: did you mean `b`?
                10:21: error[duplicate-label]: labels `b` and `B` are the same"#]],
        );
    }

    #[test]
    fn a_rule_behind_one_that_takes_its_words_is_shadowed() {
        check(
            "[[routes]]\nagent = \"a\"\nwhen = { words = [\"factura\", \"FACTURA\"] }\n\
             [[routes]]\nagent = \"b\"\nwhen = { words = [\"mi Fáctura\"] }\n\
             [[routes]]\nagent = \"b\"\nwhen = { words = [\"una factura\", \"recibo\"] }",
            expect![[r#"
                3:1: warning[duplicate-word]: `factura` and `FACTURA` are the same without case and accents
                  hint: delete one of them
                6:1: warning[shadowed-route]: routes[1] never wins: routes[0] and others before it take its words
                  hint: put the more particular rule first
                9:1: warning[duplicate-word]: `una factura` never wins here: routes[0] takes `factura`
                  hint: put the more particular rule first"#]],
        );
    }

    #[test]
    fn with_multi_all_the_same_word_may_lead_to_two_agents() {
        check(
            "multi = \"all\"\n[[routes]]\nagent = \"a\"\nwhen = { words = [\"factura\"] }\n\
             [[routes]]\nagent = \"b\"\nwhen = { words = [\"factura\"] }",
            expect![""],
        );
    }

    #[test]
    fn nothing_comes_behind_a_regex_that_matches_everything() {
        check(
            "[[routes]]\nagent = \"a\"\nwhen = { regex = \".*\" }\n\
             [[routes]]\nagent = \"b\"\nwhen = { regex = \"b\" }\n\
             [route_model]\nmodel = \"m\"\nlabels = [\"a\", \"b\"]",
            expect![[r#"
                6:1: warning[shadowed-route]: never tried: routes[0] matches every question
                9:1: warning[shadowed-route]: never asked: routes[0] matches every question"#]],
        );
    }

    #[test]
    fn the_same_regex_twice_is_shadowed() {
        check(
            "[[routes]]\nagent = \"a\"\nwhen = { regex = \"^b?\" }\n\
             [[routes]]\nagent = \"b\"\nwhen = { regex = \"^b?\", mode = \"full\" }\n\
             [[routes]]\nagent = \"b\"\nwhen = { regex = \"^b?\" }",
            expect!["9:1: warning[shadowed-route]: routes[2] never wins: routes[0] has the same regex"],
        );
    }

    #[test]
    fn a_broken_regex_is_reported_with_its_position() {
        check(
            "[[routes]]\nagent = \"b\"\nwhen = { regex = 'ñ(a', mode = \"search\" }",
            expect![[r#"
                5:18: error[invalid-regex]: invalid regex, character 2: unclosed group
                  hint: quote it with '…', where a backslash is a backslash"#]],
        );
    }

    #[test]
    fn unknown_keys_come_with_the_nearest_known_one() {
        check(
            "defalt = 1\n[[routes]]\nagent = \"b\"\nwhen = { word = [\"b\"], words = [\"b\"] }\n[limits]\ntokens = 5",
            expect![[r#"
                3:1: error[unknown-key]: unknown key `defalt`
                  hint: did you mean `default`?
                6:10: error[unknown-key]: unknown key `word` in `routes[0].when`
                  hint: did you mean `words`?
                8:1: error[unknown-key]: unknown key `tokens` in `limits`
                  hint: known keys: steps"#]],
        );
    }

    #[test]
    fn wrong_types_and_values_are_named() {
        check(
            "multi = \"some\"\n[[routes]]\nagent = 3\nwhen = { words = \"b\" }\n\
             [[routes]]\nagent = \"b\"\nwhen = { words = [\"?\"] }\n\
             [[routes]]\nagent = \"b\"\nwhen = { words = [\"b\"], regex = \"b\" }\n\
             [limits]\nsteps = 0\n[models.x]\nurl = \"localhost\"\nmodel = \"x\"",
            expect![[r#"
                3:9: error[wrong-value]: `multi` must be one of `first`, `all`, found `some`
                5:9: error[wrong-type]: `routes[0].agent` must be a string, found integer
                6:18: error[wrong-type]: `routes[0].when.words` must be an array of strings, found string
                9:19: error[empty-words]: `?` has no letter and no digit, so it matches nothing
                  hint: use `regex` for signs
                12:8: error[wrong-value]: `routes[2].when` needs either `words` or `regex`
                  hint: two rules are two [[routes]]
                14:9: error[wrong-value]: `limits.steps` must be at least 1, found 0
                15:9: warning[unused-model]: nothing uses model `x`
                16:7: error[wrong-value]: `models.x.url` must begin with `http://` or `https://`, found `localhost`
                  hint: a local server is `http://127.0.0.1:8000/v1`"#]],
        );
    }

    #[test]
    fn what_is_missing_is_reported_all_at_once() {
        let problems: Vec<String> = Routes::lint("[route_model]\n").1.iter().map(ToString::to_string).collect();
        expect![[r#"
            1:1: error[missing-key]: missing key `version`
              hint: write `version = 1`
            1:1: error[missing-default]: missing key `default`
              hint: write `default = "NAME"`, the agent for questions that no rule claims
            1:1: error[missing-key]: missing key `route_model.labels`
              hint: name the agents that the model chooses among
            1:1: error[missing-key]: missing key `route_model.model`"#]]
        .assert_eq(&problems.join("\n"));
    }

    #[test]
    fn what_is_not_toml_is_reported_with_its_position() {
        let problems = Routes::lint("version = 1\ndefault = recepcion\n").1;
        assert_eq!((problems[0].rule, problems[0].line), ("syntax", 2));
    }
}
