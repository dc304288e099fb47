//! `afina router`: which agent answers, and how well that is decided.

use std::path::Path;

use afina_router::{
    Clients, Ledger, Report, Routes, Severity, check, decide, dispatch, explain, http_clients, read_cases,
};
use anyhow::{Context, Result};
use serde_json::json;

use super::{OK, REFUSED};
use crate::output::Output;

pub fn run(routes: &Path, question: &str, only_decide: bool, output: &Output) -> Result<u8> {
    let (routes, clients) = open(routes, output)?;
    let mut ledger = Ledger::default();
    let decision = decide(&routes, &clients, question, &mut ledger).context("failed to route the question")?;
    let answer = match only_decide {
        true => None,
        false => {
            Some(dispatch(&routes, &clients, question, &decision, &mut ledger).context("an agent failed to answer")?)
        }
    };
    let totals = ledger.totals();
    let mut text = explain(&decision);
    if let Some(answer) = &answer {
        text += &format!("\n{}\n", answer.text);
    }
    text += &format!(
        "\ntokens: {} input + {} output + {} reasoning = {}",
        totals.input, totals.output, totals.reasoning, totals.total
    );
    output.result(&text, &json!({ "decision": decision, "answer": answer, "calls": ledger.calls, "tokens": totals }));
    Ok(OK)
}

pub fn test(routes: &Path, cases: &Path, min_accuracy: Option<f64>, output: &Output) -> Result<u8> {
    let (routes, clients) = open(routes, output)?;
    let text = std::fs::read_to_string(cases).with_context(|| format!("failed to read `{}`", cases.display()))?;
    let report = test_cases(&routes, &clients, &text, "deciding", output)
        .with_context(|| format!("failed to test `{}`", cases.display()))?;
    output.result(&report.text(), &report.json());
    match min_accuracy {
        Some(bar) if report.accuracy() < bar => {
            output.warn(&format!("accuracy {:.3} is below {bar}", report.accuracy()));
            Ok(REFUSED)
        }
        _ => Ok(OK),
    }
}

pub fn lint(path: &Path, output: &Output) -> Result<u8> {
    let text = std::fs::read_to_string(path).with_context(|| format!("failed to read `{}`", path.display()))?;
    let (routes, problems) = Routes::lint(&text);
    let name = path.display();
    let mut lines: Vec<String> = problems.iter().map(|problem| format!("{name}:{problem}")).collect();
    if let Some(routes) = &routes {
        lines.push(format!(
            "{} agents, {} word and regex routes, default `{}`",
            routes.agents.len(),
            routes.routes.len(),
            routes.default
        ));
    }
    output.result(&lines.join("\n"), &json!({ "problems": problems, "usable": routes.is_some() }));
    Ok(if routes.is_some() { OK } else { REFUSED })
}

/// Decides the cases of a text behind a progress bar.
pub fn test_cases(routes: &Routes, clients: &Clients, cases: &str, what: &str, output: &Output) -> Result<Report> {
    let cases = read_cases(cases)?;
    let bar = output
        .progress(cases.len() as u64, &format!("{what} {{bar:30}} {{pos}}/{{len}}  {{elapsed}} so far, {{eta}} to go"));
    let report = check(routes, clients, &cases, &mut |done, _| bar.set_position(done as u64));
    bar.finish_and_clear();
    Ok(report?)
}

fn open(path: &Path, output: &Output) -> Result<(Routes, Clients)> {
    let text = std::fs::read_to_string(path).with_context(|| format!("failed to read `{}`", path.display()))?;
    let (routes, problems) = Routes::lint(&text);
    for problem in &problems {
        if problem.severity == Severity::Warning || routes.is_none() {
            output.note(&format!("{}:{problem}", path.display()));
        }
    }
    let routes =
        Routes::parse(&text).map(|_| routes).with_context(|| format!("`{}` cannot be used", path.display()))?;
    let routes = routes.expect("a file that parses has routes");
    let clients = http_clients(&routes, &|variable| std::env::var(variable).ok())?;
    Ok((routes, clients))
}
