//! How good a model is at the quickstart's task: every question one decision over HTTP.

use std::net::TcpListener;
use std::path::Path;

use afina_chat::{TemplateChoice, TrainOn};
use afina_data::{Item, Method, Profile, ReadOptions, TokenizedExample};
use afina_eval::{ExactMatch, exact_match, likelihood};
use afina_router::baseline::{NaiveBayes, accuracy, majority};
use afina_router::{Case, Report, Routes, Share, http_clients, read_cases};
use afina_serve::{ServeOptions, router, serve, stop_signal};
use anyhow::{Context, Result, anyhow};
use burn::tensor::Device;

use crate::commands::router::test_cases;
use crate::commands::serve::{MAX_BODY_BYTES, QUEUE_LIMIT, load};
use crate::output::Output;

/// Answers that are generated freely and compared.
const GREEDY_ROWS: usize = 30;
/// Long enough for a base model to ramble and be counted.
const GREEDY_TOKENS: usize = 24;
const ADAPTER: &str = "tuned";

/// The questions, and what needs no neural network to answer them.
pub struct Questions {
    valid: &'static str,
    /// Whether only some of the questions are asked.
    short: bool,
    test: String,
    cases: Vec<Case>,
    majority: String,
    naive_bayes: NaiveBayes,
}

/// One model's figures.
pub struct Score {
    pub report: Report,
    /// Nats per trained token of the validation file.
    pub validation_loss: f64,
    pub greedy: ExactMatch,
}

impl Questions {
    /// `limit` takes the first questions of the test file only.
    pub fn new(train: &str, valid: &'static str, test: &str, limit: Option<usize>) -> Result<Questions> {
        let train = read_cases(train)?;
        let kept = test.lines().take(limit.unwrap_or(usize::MAX)).flat_map(|line| [line, "\n"]).collect::<String>();
        Ok(Questions {
            valid,
            short: limit.is_some(),
            cases: read_cases(&kept)?,
            test: kept,
            majority: majority(&train).ok_or_else(|| anyhow!("the training file has no example"))?,
            naive_bayes: NaiveBayes::train(&train),
        })
    }

    pub fn majority(&self) -> Share {
        accuracy(&self.cases, &|_| self.majority.clone())
    }

    pub fn naive_bayes(&self) -> Share {
        accuracy(&self.cases, &|question| self.naive_bayes.predict(question))
    }
}

/// Serves the model on a free loopback port, routes every question through it, then measures loss and free answers.
pub fn score(
    base: &Path,
    adapter: Option<&Path>,
    routes: &str,
    questions: &Questions,
    device: &Device,
    output: &Output,
) -> Result<Score> {
    let adapters: Vec<String> = adapter.iter().map(|dir| format!("{ADAPTER}={}", dir.display())).collect();
    let engine = load(base, &TemplateChoice::Model, &adapters, device, output)?;
    let ids: Vec<String> = afina_serve::Engine::models(&engine).into_iter().map(|card| card.id).collect();
    let id = ids.last().expect("an engine has its base").clone();

    let format = engine.format(&id).expect("the engine lists this id").clone();
    let stop_tokens = engine.stop_tokens(&id).unwrap_or_default().to_vec();
    let llama = engine.llama(&id).expect("the engine lists this id").clone();
    let conversations = conversations(&questions.test)?;
    let asked: Vec<_> = conversations.iter().take(GREEDY_ROWS).collect();
    let validation: Vec<TokenizedExample> = self::conversations(questions.valid)?
        .iter()
        .take(if questions.short { GREEDY_ROWS } else { usize::MAX })
        .enumerate()
        .map(|(index, conversation)| {
            let encoded = format.training_tokens(conversation, TrainOn::Assistant)?;
            Ok(TokenizedExample { line: index + 1, tokens: encoded.tokens, loss_mask: encoded.loss_mask })
        })
        .collect::<Result<_>>()?;

    // The decisions: a real server, a real client, a model choosing among labels.
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("failed to open a loopback port")?;
    let url = format!("http://{}/v1", listener.local_addr().context("failed to read the port")?);
    let mut routes = Routes::parse(routes)?;
    for model in routes.models.values_mut() {
        model.url = url.clone();
        model.model = id.clone();
    }
    let app = router(engine, ServeOptions { api_key: None, queue_limit: QUEUE_LIMIT, max_body_bytes: MAX_BODY_BYTES });
    let (stop, stopped) = stop_signal();
    let server = std::thread::spawn(move || serve(listener, app, stopped, std::time::Duration::from_secs(1)));
    let clients = http_clients(&routes, &|_| None)?;
    let report = test_cases(&routes, &clients, &questions.test, "   questions", output);
    stop.stop();
    server.join().map_err(|_| anyhow!("the server's thread panicked"))?.context("the server failed")?;
    let report = report?;

    let greedy = exact_match(&llama, &format, &stop_tokens, &asked, GREEDY_TOKENS, &mut |_, _| {})?;
    let validation_loss = likelihood(&llama, &validation, &mut |_, _| {}).loss;
    output.note(&format!(
        "   {id}: {:.1} % of {} questions, validation loss {validation_loss:.3}",
        100.0 * report.accuracy(),
        report.total.cases
    ));
    Ok(Score { report, validation_loss, greedy })
}

fn conversations(text: &str) -> Result<Vec<afina_chat::Conversation>> {
    let mut conversations = Vec::new();
    let options = ReadOptions::new(Method::Sft, Profile::Local);
    afina_data::read(&mut text.as_bytes(), "-", &options, &mut |item| {
        if let Item::Example(example) = item {
            conversations.push(example.into_conversation());
        }
    })?;
    Ok(conversations)
}
