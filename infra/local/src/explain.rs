//! `cargo run -- explain`: what the deployed adapters read from a body. Starts nothing.

use std::io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use reelhook_core::explain::{BodyKind, InvalidLine, ReceivedBody, explain, explain_line};
use reelhook_core::request::Headers;
use reelhook_core::settings::{InvalidSettings, Settings};
use reelhook_core::{Provider, Timestamp};
use serde_json::json;

/// What to explain. The body comes on standard input and is read byte for byte, because a signature covers every byte: the
/// newline that `echo` or an editor appends invalidates a signature over the body. `printf %s` appends none.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The provider that sent the body.
    #[arg(value_parser = provider, required_unless_present = "lines")]
    provider: Option<Provider>,
    /// What the body belongs to: callback, status, submission, or file for the response to a call that makes a link.
    #[arg(value_parser = kind, required_unless_present = "lines")]
    kind: Option<BodyKind>,
    /// HTTP status of the response to a status request or a submission.
    #[arg(long, value_name = "N", default_value_t = 200, conflicts_with = "lines")]
    http_status: u16,
    /// The provider's id of the polled task. The default is the first task in the response.
    #[arg(long, value_name = "ID", conflicts_with = "lines")]
    requested_id: Option<String>,
    /// A header of a callback; repeat it for each. With a header or with settings, the signature is verified.
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = header, conflicts_with = "lines")]
    headers: Vec<(String, String)>,
    /// The path of a callback, exactly as sent.
    #[arg(long, default_value = "", hide_default_value = true, conflicts_with = "lines")]
    path: String,
    /// The query of a callback, exactly as sent, without the question mark.
    #[arg(long, default_value = "", hide_default_value = true, conflicts_with = "lines")]
    query: String,
    /// A file with the settings document, whose secrets verify the signature.
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// When it was received, in Unix seconds. The default is now. Old signatures are valid only around their own time.
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    now: Option<i64>,
    /// Every line of standard input is a JSON object: provider, kind, body as JSON or raw as text, and optionally
    /// `http_status`, `requested_id`, headers as a list of pairs, path, query, settings of the provider, and now. Standard
    /// output has one line for each, with `error` for an invalid line.
    #[arg(long)]
    lines: bool,
}

/// Why nothing was explained.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The settings file cannot be read.
    #[error("cannot read the settings in {}: {source}", path.display())]
    SettingsFile {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The settings are invalid.
    #[error("invalid settings in {}: {source}", path.display())]
    Settings {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: InvalidSettings,
    },
    /// Standard input cannot be read.
    #[error("cannot read standard input: {0}")]
    Input(io::Error),
    /// Standard output cannot be written.
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
}

/// Reads standard input and explains it on standard output.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Error> {
    let settings = arguments.settings.as_deref().map(read_settings).transpose()?;
    let now = arguments.now.map_or_else(current_time, Timestamp::from_seconds);
    let output = io::stdout().lock();
    let written = if arguments.lines {
        explain_lines(io::stdin().lock(), output, settings.as_ref(), now)
    } else {
        explain_one(arguments, output, settings.as_ref(), now)
    };
    match written {
        // The reader closed the pipe.
        Err(Error::Output(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

fn explain_one(
    arguments: &Arguments,
    mut output: impl Write,
    settings: Option<&Settings>,
    now: Timestamp,
) -> Result<(), Error> {
    // clap requires both unless there are lines.
    let (Some(provider), Some(kind)) = (arguments.provider, arguments.kind) else { return Ok(()) };
    let mut body = Vec::new();
    io::stdin().lock().read_to_end(&mut body).map_err(Error::Input)?;
    let headers = arguments.headers.iter().map(|(name, value)| (&**name, &**value));
    let explanation = explain(&ReceivedBody {
        provider,
        kind,
        body: &body,
        http_status: arguments.http_status,
        requested_id: arguments.requested_id.as_deref(),
        headers: (!arguments.headers.is_empty()).then(|| Headers::new(headers)),
        path: &arguments.path,
        query: &arguments.query,
        settings: settings.map(|settings| settings.provider(provider)),
        now,
    });
    let written = serde_json::to_writer(&mut output, &explanation).map_err(io::Error::from);
    written.and_then(|()| output.write_all(b"\n")).and_then(|()| output.flush()).map_err(Error::Output)
}

/// Explains line by line. Flushes whenever no further line is buffered, so that a caller may wait for one result before it
/// sends the next line, and thousands of lines take few writes.
fn explain_lines(
    input: impl io::Read,
    output: impl Write,
    settings: Option<&Settings>,
    now: Timestamp,
) -> Result<(), Error> {
    let mut input = BufReader::with_capacity(1 << 16, input);
    let mut output = io::BufWriter::with_capacity(1 << 16, output);
    let mut line = Vec::new();
    while input.read_until(b'\n', &mut line).map_err(Error::Input)? > 0 {
        let explained = match str::from_utf8(&line) {
            Ok(text) => explain_line(text, settings, now).map_err(|error: InvalidLine| error.to_string()),
            Err(error) => Err(format!("the line is not UTF-8: {error}")),
        };
        let written = match explained {
            Ok(explanation) => serde_json::to_writer(&mut output, &explanation),
            Err(error) => serde_json::to_writer(&mut output, &json!({ "error": error })),
        };
        written.map_err(io::Error::from).and_then(|()| output.write_all(b"\n")).map_err(Error::Output)?;
        if input.buffer().is_empty() {
            output.flush().map_err(Error::Output)?;
        }
        line.clear();
    }
    output.flush().map_err(Error::Output)
}

fn read_settings(path: &Path) -> Result<Settings, Error> {
    let path = path.to_owned();
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(source) => return Err(Error::SettingsFile { path, source }),
    };
    Settings::parse(&text).map_err(|source| Error::Settings { path, source })
}

pub(crate) fn provider(name: &str) -> Result<Provider, String> {
    Provider::from_name(name).ok_or_else(|| format!("unknown provider; use one of {}", Provider::names()))
}

fn kind(name: &str) -> Result<BodyKind, String> {
    match name {
        "callback" => Ok(BodyKind::Callback),
        "status" => Ok(BodyKind::Status),
        "submission" => Ok(BodyKind::Submission),
        "file" => Ok(BodyKind::File),
        _ => Err("use callback, status, submission or file".to_owned()),
    }
}

fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once(':') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.trim().to_owned())),
        _ => Err("write it as 'Name: value'".to_owned()),
    }
}

fn current_time() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_seconds(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}
