//! `afina serve`: the OpenAI-compatible API over a base model and its adapters.

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use afina_chat::TemplateChoice;
use afina_recipes::chat_format;
use afina_serve::{ServeOptions, router, serve, stop_signal};
use anyhow::{Context, Result};
use burn::tensor::Device;
use serde_json::json;

use super::{OK, model};
use crate::args::Serve;
use crate::engine::LlamaEngine;
use crate::output::Output;
use crate::{Usage, interrupt};

/// Requests that may wait before the next one gets a 429.
pub const QUEUE_LIMIT: usize = 64;
pub const MAX_BODY_BYTES: usize = 32 << 20;
/// How long running answers may go on after Ctrl-C.
const DRAIN: Duration = Duration::from_secs(30);

pub fn run(args: &Serve, device: &Device, output: &Output) -> Result<u8> {
    let engine = load(&args.model, &args.chat_template, &args.adapter, device, output)?;
    let ids: Vec<String> = afina_serve::Engine::models(&engine).into_iter().map(|card| card.id).collect();
    let api_key = args.api_key_file.as_deref().map(read_key).transpose()?;
    let listener = TcpListener::bind((args.host.as_str(), args.port))
        .with_context(|| format!("failed to listen on {}:{}", args.host, args.port))?;
    let address = listener.local_addr().context("failed to read the address of the listener")?;
    if !address.ip().is_loopback() && api_key.is_none() {
        output.warn("anyone who reaches this machine can use the model: give --api-key-file");
    }
    let options = ServeOptions { api_key, queue_limit: QUEUE_LIMIT, max_body_bytes: MAX_BODY_BYTES };
    let app = router(engine, options);

    let (stop, stopped) = stop_signal();
    let asked = interrupt::watch()?;
    std::thread::spawn(move || {
        while !interrupt::came(&asked) {
            std::thread::sleep(Duration::from_millis(50));
        }
        stop.stop();
    });
    output.result(
        &format!("serving {} at http://{address}/v1 (Ctrl-C stops)", ids.join(", ")),
        &json!({ "url": format!("http://{address}/v1"), "models": ids }),
    );
    serve(listener, app, stopped, DRAIN).context("the server failed")?;
    Ok(OK)
}

/// Loads a base with a chat template under its folder's name, and adapters given as NAME=DIR.
pub fn load(
    base: &Path,
    template: &TemplateChoice,
    adapters: &[String],
    device: &Device,
    output: &Output,
) -> Result<LlamaEngine> {
    let id = base.canonicalize().ok().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    let format = chat_format(base, None, template)?;
    let mut engine = model::load_base(base, id.as_deref().unwrap_or(model::BASE), format, device, output)?;
    for given in adapters {
        let (name, dir) = given.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(|| {
            Usage::error(format!("adapter `{given}`: expected NAME=DIR"), "as in --adapter soporte=checkpoints/soporte")
        })?;
        if let Some(warning) = engine.add_adapter(name, Path::new(dir))? {
            output.warn(&warning);
        }
    }
    Ok(engine)
}

fn read_key(path: &Path) -> Result<String> {
    let text = std::fs::read_to_string(path).with_context(|| format!("failed to read `{}`", path.display()))?;
    match text.lines().next().map(str::trim) {
        Some(key) if !key.is_empty() => Ok(key.to_owned()),
        _ => Err(Usage::error(format!("`{}` has no key in its first line", path.display()), "write the key there")),
    }
}
