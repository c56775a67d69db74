//! The deployed adapters read every file under `events/providers/` as its `expect` says.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use reelhook_core::explain::{BodyKind, Explanation, ReceivedBody, Verdict, explain};
use reelhook_core::report::{Artifact, Reason};
use reelhook_core::request::{CallbackRequest, Headers};
use reelhook_core::settings::ProviderSettings;
use reelhook_core::usage::Usage;
use reelhook_core::{Provider, Timestamp};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// A fixture. The README of the folder describes the fields.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fixture {
    about: String,
    source: String,
    kind: BodyKind,
    /// The fixture that this one is another delivery of.
    repeats: Option<String>,
    http_status: Option<u16>,
    requested_id: Option<String>,
    method: Option<String>,
    #[serde(default)]
    path: String,
    #[serde(default)]
    query: String,
    headers: Vec<(String, String)>,
    settings: Option<ProviderSettings>,
    now: Timestamp,
    body: Option<Box<RawValue>>,
    raw: Option<String>,
    expect: Expectation,
}

/// What is expected; omitted fields are expected to be absent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expectation {
    outcome: Verdict,
    provider_task_id: Option<String>,
    #[serde(default)]
    artifacts: Vec<Artifact>,
    reason: Option<Reason>,
    retryable: Option<bool>,
    code: Option<String>,
    message: Option<String>,
    usage: Option<Usage>,
    response: Option<Value>,
    authentic: Option<Value>,
    authentic_reason: Option<String>,
}

impl Fixture {
    fn explanation(&self, provider: Provider) -> Explanation {
        let body = self.raw.as_deref().or(self.body.as_deref().map(RawValue::get)).expect("a fixture has body or raw");
        // A lone Content-Type does not make the signature be verified.
        let signed = self.headers.len() > 1 || self.settings.is_some();
        let headers = Headers::new(self.headers.iter().map(|(name, value)| (&**name, &**value)));
        explain(&ReceivedBody {
            provider,
            kind: self.kind,
            body: body.as_bytes(),
            http_status: self.http_status.unwrap_or(200),
            requested_id: self.requested_id.as_deref(),
            headers: signed.then_some(headers),
            path: &self.path,
            query: &self.query,
            settings: self.settings.as_ref(),
            now: self.now,
        })
    }

    fn expected(&self) -> Explanation {
        let expect = &self.expect;
        Explanation {
            outcome: expect.outcome,
            provider_task_id: expect.provider_task_id.clone(),
            artifacts: expect.artifacts.clone(),
            reason: expect.reason,
            retryable: expect.retryable,
            code: expect.code.clone(),
            message: expect.message.clone(),
            usage: expect.usage.clone(),
            response: expect.response.clone(),
            authentic: expect.authentic.clone(),
            authentic_reason: expect.authentic_reason.clone(),
        }
    }
}

/// The fixtures of a provider by file name.
fn fixtures(provider: Provider) -> BTreeMap<String, Fixture> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../events/providers").join(provider.name());
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    files
        .map(|file| {
            let path = file.expect("the folder can be listed").path();
            let name = path.file_name().expect("a file has a name").to_string_lossy().into_owned();
            let text = fs::read_to_string(&path).expect("a fixture can be read");
            let fixture = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (name, fixture)
        })
        .collect()
}

#[test]
fn every_fixture_is_read_as_expected() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for provider in Provider::ALL {
        for (name, fixture) in fixtures(provider) {
            count += 1;
            let (found, expected) = (fixture.explanation(provider), fixture.expected());
            if found != expected {
                let json =
                    |explanation: &Explanation| serde_json::to_string(explanation).expect("an explanation serialises");
                wrong.push(format!("{provider}/{name}\n  expected {}\n  found    {}", json(&expected), json(&found)));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {count} fixtures differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_fixture_describes_itself() {
    for provider in Provider::ALL {
        for (name, fixture) in fixtures(provider) {
            let kind = match fixture.kind {
                BodyKind::Callback => "callback-",
                BodyKind::Status => "status-",
                BodyKind::Submission => "submission-",
                BodyKind::File => "file-",
            };
            assert!(
                name.starts_with(kind) && Path::new(&name).extension().is_some_and(|extension| extension == "json"),
                "{provider}/{name}"
            );
            assert!(!fixture.about.is_empty(), "{provider}/{name} needs an `about`");
            let source = &fixture.source;
            assert!(
                source.starts_with("confirmed") || source.starts_with("inferred"),
                "{provider}/{name} does not say whether its source is confirmed or inferred"
            );
            assert_eq!(fixture.body.is_some(), fixture.raw.is_none(), "{provider}/{name} has to have body or raw");
            let is_callback = fixture.kind == BodyKind::Callback;
            assert_eq!(fixture.method.is_some(), is_callback, "{provider}/{name}: callbacks have a method");
            assert_eq!(fixture.http_status.is_some(), !is_callback, "{provider}/{name}: responses have a status");
        }
    }
}

/// The cases that every provider needs. A provider that signs also needs a wrong signature and a missing one.
#[test]
fn no_adapter_lacks_a_case() {
    let ended_well = |fixture: &Fixture| {
        let outcome = fixture.expect.outcome;
        outcome == Verdict::Succeeded || outcome == Verdict::Hint && !fixture.expect.artifacts.is_empty()
    };
    let ended_badly = |fixture: &Fixture| {
        matches!(fixture.expect.outcome, Verdict::Failed | Verdict::Hint) && fixture.expect.reason.is_some()
    };
    let is_open = |fixture: &Fixture| fixture.expect.outcome == Verdict::Open;
    let is_unparseable = |fixture: &Fixture| fixture.expect.outcome == Verdict::Unparseable;
    let mut missing = Vec::new();
    for provider in Provider::ALL {
        let fixtures = fixtures(provider);
        let mut need = |what: &str, kind: BodyKind, is_it: &dyn Fn(&Fixture) -> bool| {
            if !fixtures.values().any(|fixture| fixture.kind == kind && is_it(fixture)) {
                missing.push(format!("{provider}: {what}"));
            }
        };
        if provider.calls_back() {
            need("a callback that succeeded", BodyKind::Callback, &ended_well);
            need("a callback that failed", BodyKind::Callback, &ended_badly);
            need("a callback of an open task", BodyKind::Callback, &is_open);
            need("a callback that comes twice", BodyKind::Callback, &|fixture| fixture.repeats.is_some());
            need("a malformed callback", BodyKind::Callback, &is_unparseable);
        }
        need("the status of an open task", BodyKind::Status, &is_open);
        need("the status of a task that succeeded", BodyKind::Status, &ended_well);
        need("the status of a task that failed", BodyKind::Status, &ended_badly);
        need("the status of an unknown id", BodyKind::Status, &|fixture| fixture.expect.outcome == Verdict::NotFound);
        need("an accepted submission", BodyKind::Submission, &is_open);
        need("a refused submission", BodyKind::Submission, &ended_badly);
        if signs(provider) {
            let refused = |words: &'static str| {
                move |fixture: &Fixture| {
                    fixture.expect.authentic_reason.as_deref().is_some_and(|reason| reason.contains(words))
                }
            };
            let authentic = |fixture: &Fixture| fixture.expect.authentic == Some(Value::Bool(true));
            need("a valid signature", BodyKind::Callback, &authentic);
            need("a wrong signature", BodyKind::Callback, &refused("wrong"));
            need("a stale signature", BodyKind::Callback, &refused("old"));
            need("a missing signature", BodyKind::Callback, &refused("missing"));
        }
    }
    assert!(missing.is_empty(), "fixtures are missing:\n{}", missing.join("\n"));
}

/// Whether a callback without any signature is refused once a secret is configured.
fn signs(provider: Provider) -> bool {
    let settings = serde_json::from_str(r#"{"signing_secrets":["whsec_c2VjcmV0"]}"#).expect("valid settings");
    let request = CallbackRequest { path: "/", query: "", headers: Headers::default(), body: b"{}" };
    provider.adapter().authenticate(&request, &settings, Timestamp::from_seconds(0)).is_err()
}

#[test]
fn a_repeated_callback_is_the_first_one_again() {
    for provider in Provider::ALL {
        let fixtures = fixtures(provider);
        for (name, fixture) in &fixtures {
            let Some(first) = &fixture.repeats else { continue };
            let first = fixtures.get(first).unwrap_or_else(|| panic!("{provider}/{name} repeats no fixture"));
            let body =
                |fixture: &Fixture| fixture.raw.clone().or(fixture.body.as_deref().map(|body| body.get().to_owned()));
            assert_eq!(body(fixture), body(first), "{provider}/{name}");
            assert!(fixture.now > first.now, "{provider}/{name} comes later");
        }
    }
}

/// An adapter that no variant of `Provider` uses would go unnoticed.
#[test]
fn there_is_no_adapter_without_a_provider() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/providers");
    for entry in fs::read_dir(folder).expect("the folder can be listed") {
        let path = entry.expect("the folder can be listed").path();
        let name = path.file_stem().expect("a file has a name").to_string_lossy().into_owned();
        let shared =
            ["adapter", "batch", "failures", "json", "links", "mod", "prelude", "requests", "responses", "tests"];
        assert!(shared.contains(&name.as_str()) || Provider::from_name(&name).is_some(), "{name} is not a Provider");
    }
}

#[test]
fn there_is_no_folder_without_a_provider() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../events/providers");
    for entry in fs::read_dir(folder).expect("the folder can be listed") {
        let entry = entry.expect("the folder can be listed");
        if entry.file_type().expect("an entry has a type").is_dir() {
            let name = entry.file_name().to_string_lossy().into_owned();
            assert!(Provider::from_name(&name).is_some(), "events/providers/{name} belongs to no provider");
        }
    }
}
