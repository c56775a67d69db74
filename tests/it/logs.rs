//! Whatever a function logged while the cases ran, also in processes that cases start themselves, and the check that nothing of
//! it gives access to anything.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use local::{demonstration, runtime_api};
use serde_json::Value;
use simulator::Provider;
use tokio::time::{Instant, sleep};

use crate::Case;
use crate::world::{World, print_error};

pub(crate) fn cases() -> Vec<Case> {
    vec![case!(what_gives_access_is_found_in_a_log), case!(a_line_says_of_which_task_and_invocation_it_is)]
}

/// The output of processes that cases start.
#[derive(Debug)]
pub(crate) struct ProcessLogs {
    directory: PathBuf,
}

impl ProcessLogs {
    /// Keeps it until the value is dropped.
    pub(crate) fn keep() -> std::io::Result<Self> {
        let directory = std::env::temp_dir().join(format!("reelhook-it-{}", std::process::id()));
        std::fs::create_dir_all(&directory)?;
        runtime_api::keep_output_in(directory.clone());
        Ok(Self { directory })
    }

    /// All lines, each after the name of its process.
    fn read(&self) -> std::io::Result<String> {
        let mut text = String::new();
        for entry in std::fs::read_dir(&self.directory)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            for line in String::from_utf8_lossy(&std::fs::read(entry.path())?).lines() {
                // Writing to a String cannot fail.
                let _ = writeln!(text, "{name}: {line}");
            }
        }
        Ok(text)
    }
}

impl Drop for ProcessLogs {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

async fn a_line_says_of_which_task_and_invocation_it_is(world: Arc<World>) {
    let task = "kling/log-lines";
    world.submit(Provider::Kling, "log-lines", "").await;
    world.assert_archived_by_any(task).await;
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let logs = world.stack.logs().await.expect("the logs can be read");
        let lines = logs.lines().filter_map(|line| serde_json::from_str::<Value>(&line[line.find('{')?..]).ok());
        let lines: Vec<Value> = lines.filter(|line| line["task"] == task).collect();
        for line in &lines {
            assert!(line["span"]["request_id"].as_str().is_some_and(|id| id.len() > 10), "{line}");
        }
        if lines.iter().any(|line| line["message"] == "settled") {
            return;
        }
        assert!(Instant::now() < end, "an invocation's lines appear when it has ended: {lines:?}");
        sleep(Duration::from_millis(500)).await;
    }
}

/// Reads every line that any function logged. Prints those that give something away, without it, and returns whether there are
/// none. Logs that cannot be read count as giving something away.
pub(crate) async fn give_nothing_away(world: &World) -> bool {
    let logs = match (world.stack.logs().await, world.process_logs.read()) {
        (Ok(deployed), Ok(started)) => deployed + "\n" + &started,
        (deployed, started) => {
            print_error(&format!("the logs cannot be read: {:?} {:?}", deployed.err(), started.err()));
            return false;
        }
    };
    let secrets = secrets(&demonstration::settings(&world.simulator));
    let findings: Vec<String> = logs.lines().filter_map(|line| finding(line, &secrets)).collect();
    print_error(&format!("{} lines of logs read, {} give something away", logs.lines().count(), findings.len()));
    for finding in findings.iter().take(20) {
        print_error(finding);
    }
    findings.is_empty()
}

/// The keys and secrets in provider settings.
fn secrets(settings: &Value) -> Vec<String> {
    let own = settings["providers"].as_object().into_iter().flat_map(|providers| providers.values());
    let own = own.flat_map(|provider| {
        let signing = provider["signing_secrets"].as_array().into_iter().flatten();
        signing.chain([&provider["api_key"], &provider["access_key"], &provider["secret_key"]])
    });
    let keys = settings["callback"]["keys"].as_array().into_iter().flatten();
    let texts: Vec<&str> = own.chain(keys).filter_map(Value::as_str).collect();
    // Also what a Standard Webhooks secret is without its prefix.
    texts.iter().map(|text| text.trim_start_matches("whsec_").to_owned()).collect()
}

/// What a line gives away, with the line's function and the line without it.
fn finding(line: &str, secrets: &[String]) -> Option<String> {
    let (what, text) = secret(line, secrets)
        .or_else(|| token(line).map(|token| ("a callback token", token)))
        .or_else(|| signature(line).map(|signature| ("a signature", signature)))
        .or_else(|| query(line).map(|query| ("the query of a link", query)))?;
    Some(format!("{what} in a log: {}", line.replace(text, "[…]")))
}

fn secret<'a>(line: &str, secrets: &'a [String]) -> Option<(&'static str, &'a str)> {
    secrets.iter().find(|secret| line.contains(*secret)).map(|secret| ("a key or secret", secret.as_str()))
}

/// The last part of a callback URL: 128 bits in base64url.
fn token(line: &str) -> Option<&str> {
    let is_of_token = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_');
    line.match_indices("/callback/").find_map(|(at, prefix)| {
        let mut parts = line[at + prefix.len()..].split('/').skip(2);
        let part = parts.next()?;
        let end = part.find(|character| !is_of_token(character)).unwrap_or(part.len());
        (end == 22).then(|| &part[..end])
    })
}

/// An HMAC-SHA256 in base64: 43 characters and `=`.
fn signature(line: &str) -> Option<&str> {
    let is_of_base64 = |character: char| character.is_ascii_alphanumeric() || matches!(character, '+' | '/');
    line.match_indices('=').find_map(|(end, _)| {
        let start = line[..end].rfind(|character| !is_of_base64(character)).map_or(0, |before| before + 1);
        // A slash in front can belong to the text around it, so a longer one counts as well.
        (end - start >= 43 && line.is_char_boundary(start)).then(|| &line[start..=end])
    })
}

/// What follows the question mark of a URL.
fn query(line: &str) -> Option<&str> {
    line.match_indices("://").find_map(|(at, _)| {
        let url = line[at..]
            .split(|character: char| character.is_whitespace() || matches!(character, '"' | '\\' | '<' | '>'))
            .next()?;
        url.split_once('?').map(|(_, query)| query).filter(|query| query.contains('='))
    })
}

/// The check is worth something only if it finds what it looks for.
async fn what_gives_access_is_found_in_a_log(_: Arc<World>) {
    let secrets = ["kling-api-key".to_owned()];
    for (line, what) in [
        (r#"callback: {"message":"a call","key":"Bearer kling-api-key"}"#, "a key or secret"),
        (r#"callback: {"path":"/callback/kling/job-1/9UraFqHCuOZtznSEpILmgA"}"#, "a callback token"),
        (r"poll: POST https://a.example/callback/apimart/job-1/9UraFqHCuOZtznSEpILmgA/callback", "a callback token"),
        (r#"tasks: {"url":"http:\/\/a\/callback/kie/-/9UraFqHCuO-tznSEpIL_gA","x":1}"#, "a callback token"),
        (r#"callback: {"webhook-signature":"v1,UsKlJP00XoQyOn410NM9xv34sP+Gl0jnOO9Lcpr7NJ4="}"#, "a signature"),
        (r#"process: {"link":"https://cdn.example.com/v.mp4?X-Amz-Signature=abc&x=1","a":1}"#, "the query of a link"),
        (r"process: error sending request for url (http://127.0.0.1:1/files/v?s=1)", "the query of a link"),
    ] {
        let finding = finding(line, &secrets).unwrap_or_else(|| panic!("not found: {line}"));
        assert!(finding.starts_with(what), "{finding}");
        for given_away in ["kling-api-key", "9UraFqHCuO", "UsKlJP00X", "X-Amz-Signature", "s=1"] {
            assert!(!finding.contains(given_away), "{finding}");
        }
    }
    for harmless in [
        r#"callback: {"task":"kling/job-1","outcome":"succeeded","result":"CallbackAccepted"}"#,
        r#"process: {"link":"https://cdn.example.com/…\#9dccfc57","bytes":7}"#,
        r#"process: {"task":"kling/unattributed~0123456789abcdef0123456789abcdef","why":"a = b?c=d"}"#,
        "tasks: not a callback URL: expected /callback/{provider}/{id}/{token}",
    ] {
        assert_eq!(finding(harmless, &secrets), None);
    }
}
