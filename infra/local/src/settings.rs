//! `cargo run -- settings`: writes, checks and stores the provider settings.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use clap::{Args, Subcommand};
use jsonschema::error::ValidationErrorKind;
use jsonschema::{ValidationError, Validator};
use local::python::Environment;
use local::{Error, Progress};
use reelhook_core::Provider;
use reelhook_core::settings::Settings;
use serde_json::{Map, Value, json};

/// Random bytes of a callback key: as many as the HMAC that it keys has.
const KEY_BYTES: usize = 32;

static SCHEMA: LazyLock<Validator> = LazyLock::new(|| {
    let schema = serde_json::from_str(include_str!("../../settings.schema.json")).expect("the schema is JSON");
    jsonschema::validator_for(&schema).expect("it is a schema")
});

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write a new file with a random callback key and a place for the credentials of some providers.
    Init {
        /// The providers that are used.
        #[arg(required = true, value_parser = crate::explain::provider)]
        providers: Vec<Provider>,
        /// The file. It must not exist.
        #[arg(long, default_value = "settings.json")]
        file: PathBuf,
    },
    /// Print one line for each mistake in a file, and exit with 2 if there is any.
    Check {
        /// The file.
        file: PathBuf,
    },
    /// Check a file and store it as the settings of a deployed stack, in the account and region of the AWS CLI's configuration.
    Put(Put),
}

#[derive(Debug, Args)]
pub(crate) struct Put {
    /// The file.
    file: PathBuf,
}

/// Why nothing was written or stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsFileError {
    /// A file cannot be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    File { action: &'static str, path: PathBuf, source: io::Error },
    /// The document has mistakes.
    #[error("{}", .0.join("\n"))]
    Mistakes(Vec<String>),
    /// The AWS CLI failed.
    #[error("aws {command} failed, and nothing was stored: {output}")]
    Aws { command: String, output: String },
    /// Nobody says where to.
    #[error("name the stack to store them in: --stack NAME")]
    NoStack,
    /// The stack is not one of this template.
    #[error("the stack {0} has no output SettingsSecretName: is it a stack of reelhook?")]
    Stack(String),
    /// The AWS CLI could not be installed or started.
    #[error(transparent)]
    Local(#[from] Error),
}

/// Runs a command. Returns what to print.
pub(crate) async fn run(command: Command, stack: Option<&str>) -> Result<String, SettingsFileError> {
    match command {
        Command::Init { providers, file } => {
            init(&file, &providers)?;
            let file = file.display();
            Ok(format!("{file} is written: fill in the keys, then `cargo run -- settings check {file}`\n"))
        }
        Command::Check { file } => {
            check(&file)?;
            Ok(format!("{} is valid\n", file.display()))
        }
        Command::Put(Put { file }) => {
            check(&file)?;
            let secret = put(&file, stack.ok_or(SettingsFileError::NoStack)?).await?;
            Ok(format!("stored in {secret}; every function uses it within five minutes\n"))
        }
    }
}

fn init(file: &Path, providers: &[Provider]) -> Result<(), SettingsFileError> {
    let failed = |action| move |source| SettingsFileError::File { action, path: file.to_owned(), source };
    let mut key = [0; KEY_BYTES];
    File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut key)).map_err(failed("make a key for"))?;
    let providers: Map<String, Value> =
        providers.iter().map(|provider| (provider.to_string(), json!({ "api_key": "" }))).collect();
    let document = json!({
        "$schema": "infra/settings.schema.json",
        "version": 1,
        "callback": { "keys": [hex::encode(key)] },
        "providers": providers,
    });
    // Nobody else may read the keys.
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    created.and_then(|mut created| writeln!(created, "{document:#}")).map_err(failed("write"))
}

/// Every mistake in the file: first of its form, then of what it says.
fn check(file: &Path) -> Result<(), SettingsFileError> {
    let text = fs::read_to_string(file);
    let text = text.map_err(|source| SettingsFileError::File { action: "read", path: file.to_owned(), source })?;
    let mut mistakes: Vec<String> = serde_json::from_str(&text)
        .map(|document: Value| SCHEMA.iter_errors(&document).map(|error| sentence(&error)).collect())
        .unwrap_or_default();
    if mistakes.is_empty()
        && let Err(invalid) = Settings::parse(&text)
    {
        mistakes = invalid.0.iter().map(ToString::to_string).collect();
    }
    if mistakes.is_empty() { Ok(()) } else { Err(SettingsFileError::Mistakes(mistakes)) }
}

/// A mistake of form, without the value: it may be a secret.
fn sentence(error: &ValidationError<'_>) -> String {
    let path = error.instance_path().as_str().trim_start_matches('/').replace('/', ".");
    let field = if path.is_empty() { "the document" } else { &path };
    match error.kind() {
        ValidationErrorKind::MinLength { limit: 1 } => format!("{field} is empty: fill it in, or remove it"),
        ValidationErrorKind::MinLength { limit } => format!("{field} needs at least {limit} characters"),
        ValidationErrorKind::Pattern { .. } => {
            format!("{field} has to be an http or https URL without query and fragment")
        }
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            format!("{field} has an unknown field: {}", unexpected.join(", "))
        }
        _ => format!("{field}: {}", error.masked()),
    }
}

/// Stores the file in the secret that the stack's functions read. Returns the secret's name.
async fn put(file: &Path, stack: &str) -> Result<String, SettingsFileError> {
    let python = Environment::prepare(Progress::Terminal).await?;
    let query = "Stacks[0].Outputs[?OutputKey=='SettingsSecretName'].OutputValue";
    let describe = ["cloudformation", "describe-stacks", "--stack-name", stack, "--output", "text", "--query", query];
    let secret = aws(&python, describe).await?.trim().to_owned();
    if secret.is_empty() || secret == "None" {
        return Err(SettingsFileError::Stack(stack.to_owned()));
    }
    let document = format!("file://{}", file.display());
    let replace = ["secretsmanager", "put-secret-value", "--secret-id", &secret, "--secret-string", &document];
    match aws(&python, replace).await {
        // A secret of the user's own, by the parameter `SettingsSecret`, may not exist yet.
        Err(SettingsFileError::Aws { output, .. }) if output.contains("ResourceNotFoundException") => {
            aws(&python, ["secretsmanager", "create-secret", "--name", &secret, "--secret-string", &document]).await?;
        }
        stored => drop(stored?),
    }
    Ok(secret)
}

async fn aws<const N: usize>(python: &Environment, arguments: [&str; N]) -> Result<String, SettingsFileError> {
    python.run_aws(&arguments).await?.map_err(|output| {
        let command = arguments[..2].join(" ");
        SettingsFileError::Aws { command, output }
    })
}
