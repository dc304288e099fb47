//! `afina ls`, `cp`, `cat`: the built-in recipes.

use std::path::Path;

use afina_checkpoint::write_file;
use afina_recipes::{BUILT_IN, BuiltIn, find_built_in};
use anyhow::{Context, Result, bail};
use serde_json::json;

use super::OK;
use crate::Usage;
use crate::output::Output;

pub fn list(output: &Output) -> Result<u8> {
    let names: Vec<&str> = BUILT_IN.iter().map(|recipe| recipe.name).collect();
    output.result(&names.join("\n"), &json!({ "recipes": names }));
    Ok(OK)
}

pub fn print(name: &str, output: &Output) -> Result<u8> {
    let recipe = find(name)?;
    output.result(recipe.toml, &json!({ "name": recipe.name, "toml": recipe.toml }));
    Ok(OK)
}

pub fn copy(name: &str, out: &Path, output: &Output) -> Result<u8> {
    let recipe = find(name)?;
    if out.exists() {
        bail!("`{}` exists and was left as it is", out.display());
    }
    write_file(out, recipe.toml.as_bytes()).with_context(|| format!("failed to write `{}`", out.display()))?;
    let path = out.display().to_string();
    output.result(&format!("wrote {path}; train it with: afina train {path}"), &json!({ "path": path }));
    Ok(OK)
}

fn find(name: &str) -> Result<&'static BuiltIn> {
    find_built_in(name).ok_or_else(|| {
        let names: Vec<&str> = BUILT_IN.iter().map(|recipe| recipe.name).collect();
        Usage::error(format!("no built-in recipe `{name}`"), format!("there is {}", names.join(", ")))
    })
}
