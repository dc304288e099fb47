//! The settings that come with the program.

/// A recipe file that is part of the program, so that an installed binary has it too.
#[derive(Debug, Clone, Copy)]
pub struct BuiltIn {
    /// What `afina cp` and `afina train` call it: `smollm2/135M_lora`.
    pub name: &'static str,
    pub toml: &'static str,
}

pub const BUILT_IN: &[BuiltIn] = &[BuiltIn { name: "smollm2/135M_lora", toml: include_str!("smollm2/135M_lora.toml") }];

/// By its name, with or without `.toml`.
pub fn find_built_in(name: &str) -> Option<&'static BuiltIn> {
    let name = name.strip_suffix(".toml").unwrap_or(name);
    BUILT_IN.iter().find(|recipe| recipe.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Recipe;

    #[test]
    fn every_built_in_recipe_parses_and_opens_with_its_own_command() {
        for recipe in BUILT_IN {
            Recipe::parse(recipe.toml, &[]).unwrap_or_else(|error| panic!("{}: {error}", recipe.name));
            let first = recipe.toml.lines().next().unwrap();
            assert!(first.starts_with("# afina ") && first.contains(recipe.name), "{}: {first}", recipe.name);
        }
    }
}
