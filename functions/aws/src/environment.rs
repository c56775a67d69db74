//! Environment variables: what each is for, and an error that names the one that is missing. They are set by
//! `infra/template.yaml`; the README's table is tested against [`VARIABLES`].

use std::env;

/// Every variable reelhook reads, with its meaning.
pub const VARIABLES: [(&str, &str); 8] = [
    (TABLE_NAME, "name of the DynamoDB table"),
    (QUEUE_URL, "URL of the work queue"),
    (BUCKET_NAME, "name of the bucket results are copied into"),
    (STACK_NAME, "name of the stack, a dimension of every metric; reelhook without one"),
    (SETTINGS_SECRET, "ARN or name of the secret in Secrets Manager with the provider settings"),
    (CALLBACK_BASE_URL, "where providers reach the callback function"),
    (
        ALLOWED_ORIGINS,
        "host:port pairs, separated by commas, that may be fetched over http and on private addresses; for local runs only",
    ),
    (LOG_LEVEL, "error, warn, info (default), debug or trace"),
];

/// Name of the `DynamoDB` table.
pub const TABLE_NAME: &str = "TABLE_NAME";
/// URL of the work queue.
pub const QUEUE_URL: &str = "QUEUE_URL";
/// Name of the bucket.
pub const BUCKET_NAME: &str = "BUCKET_NAME";
/// Name of the stack.
pub const STACK_NAME: &str = "STACK_NAME";
/// ARN or name of the secret in Secrets Manager with the provider settings.
pub const SETTINGS_SECRET: &str = "SETTINGS_SECRET";
/// Where providers reach the callback function.
pub const CALLBACK_BASE_URL: &str = "CALLBACK_BASE_URL";
/// Origins that may be private.
pub const ALLOWED_ORIGINS: &str = "ALLOWED_ORIGINS";
/// Log level.
pub const LOG_LEVEL: &str = "LOG_LEVEL";

/// A variable that is needed and not there.
#[derive(Debug, thiserror::Error)]
#[error("the environment variable {name} is not set: {meaning}; infra/template.yaml sets it")]
pub struct MissingVariable {
    name: &'static str,
    meaning: &'static str,
}

/// The value of a variable that has to be there.
pub fn required(name: &'static str) -> Result<String, MissingVariable> {
    optional(name).ok_or_else(|| MissingVariable {
        name,
        meaning: VARIABLES.iter().find(|(known, _)| *known == name).map_or("", |(_, meaning)| meaning),
    })
}

/// The value of a variable that may be absent; an empty one is absent.
pub fn optional(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_readme_has_every_variable() {
        let readme = include_str!("../../../README.md");
        let (_, rest) = readme.split_once("<!-- variables -->\n").expect("the table has a beginning");
        let (table, _) = rest.split_once("<!-- /variables -->").expect("the table has an end");
        let mut expected = "| variable | meaning |\n|---|---|\n".to_owned();
        for (name, meaning) in VARIABLES {
            expected.push_str(&["| `", name, "` | ", meaning, " |\n"].concat());
        }
        assert_eq!(table, expected, "the table of README.md has to be:\n{expected}");
    }
    /// What the template sets for a function is what the function reads: no more, no less.
    #[test]
    fn the_template_sets_what_each_function_reads() {
        let template = include_str!("../../../infra/template.yaml");
        let block = |text: &str| -> BTreeSet<String> {
            let (_, variables) =
                text.split_once("      Variables:\n").or(text.split_once("          Variables:\n")).unwrap_or_default();
            let names = variables.lines().take_while(|line| line.starts_with("        "));
            names.filter_map(|line| line.trim().split_once(':').map(|(name, _)| name.to_owned())).collect()
        };
        let known: BTreeSet<String> = VARIABLES.iter().map(|(name, _)| (*name).to_owned()).collect();
        let of_all: BTreeSet<String> = block(template.split_once("Globals:\n").expect("globals").1);
        for (function, source) in [
            ("Callback", include_str!("../../callback/src/main.rs")),
            ("Process", include_str!("../../process/src/main.rs")),
            ("Poll", include_str!("../../poll/src/main.rs")),
            ("Tasks", include_str!("../../tasks/src/main.rs")),
        ] {
            let (_, resource) = template.split_once(&format!("  {function}Function:\n")).expect("the function");
            let (resource, _) = resource.split_once("\n\n").expect("its end");
            let set: BTreeSet<String> =
                of_all.union(&block(resource)).filter(|name| known.contains(*name)).cloned().collect();
            let mut read: BTreeSet<String> =
                known.iter().filter(|name| source.contains(&format!("({name})"))).cloned().collect();
            // Read by the logs and the metrics, which every function writes.
            read.extend([LOG_LEVEL.to_owned(), STACK_NAME.to_owned()]);
            assert_eq!(set, read, "{function}");
        }
    }
}
