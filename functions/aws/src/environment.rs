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
}
