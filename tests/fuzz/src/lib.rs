//! What has to hold for any input. Every target is one call of a function here; none of them may panic.

mod signatures;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use reelhook_core::callback::route::Route;
use reelhook_core::callback::{Event, Raw};
use reelhook_core::explain::{BodyKind, Explanation, ReceivedBody, explain, explain_line};
use reelhook_core::message::Message;
use reelhook_core::providers::adapter::{
    BodyTrust, CallbackBody, HintReason, ProviderResponse, StatusResult, SubmissionResult,
};
use reelhook_core::redacted::Secret;
use reelhook_core::report::{Artifact, Failure, Report, Source, TaskStatus};
use reelhook_core::request::{CallbackRequest, Headers, Refusal};
use reelhook_core::settings::Settings;
use reelhook_core::task::TaskId;
use reelhook_core::{Provider, TaskKey, Timestamp};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};

pub use crate::signatures::verify;

const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);
const DATE: &str = "Thu, 01 Jan 2026 00:00:00 GMT";

/// The secret of Kling, Replicate and Veo; the others that sign use [`TEXT_KEY`], as text or as the seed of a key pair. Neither may
/// ever get into a corpus.
const KLING_KEY: &[u8] = b"a key that no fuzzer knows";
const TEXT_KEY: &str = "a-key-that-no-fuzzer-knows-either";

/// Every provider has an API key; those that sign have a secret or a public key too.
static SETTINGS: LazyLock<Settings> = LazyLock::new(|| {
    let own = |provider: Provider| {
        let mut own = json!({ "api_key": "k" });
        match provider {
            Provider::Kling | Provider::Replicate | Provider::Veo => {
                own["signing_secrets"] = json!([format!("whsec_{}", STANDARD.encode(KLING_KEY))]);
            }
            Provider::WaveSpeed => own["signing_secrets"] = json!([format!("whsec_{TEXT_KEY}")]),
            Provider::Vidu | Provider::Kie | Provider::OpenRouter => own["signing_secrets"] = json!([TEXT_KEY]),
            Provider::Fal => {
                own["public_keys"] = json!([URL_SAFE_NO_PAD.encode(key_pair().public_key())]);
                own["account_id"] = json!("us");
            }
            _ => {}
        }
        (provider.name(), own)
    };
    let providers: BTreeMap<&str, Value> = Provider::ALL.into_iter().map(own).collect();
    let settings = json!({ "version": 1, "callback": { "keys": ["a-key-of-callback-URLs"] }, "providers": providers });
    Settings::parse(&settings.to_string()).expect("valid settings")
});

/// Of a provider that publishes its public key.
fn key_pair() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&TEXT_KEY.as_bytes()[..32]).expect("a seed has 32 bytes")
}

/// HTTP statuses with a meaning for some adapter.
const STATUSES: [u16; 12] = [200, 200, 201, 202, 400, 401, 404, 408, 422, 429, 451, 500];

/// The provider that the first line names, and the rest.
fn provider_line(data: &[u8]) -> Option<(Provider, &[u8])> {
    let ([name], rest) = lines(data)?;
    Some((Provider::from_name(name)?, rest))
}

/// Reads a provider's body. The first line names the provider, the byte after it selects what the body belongs to, the next one the
/// HTTP status, and the rest is the body.
pub fn parse(data: &[u8]) {
    let Some((provider, [what, status, body @ ..])) = provider_line(data) else { return };
    let adapter = provider.adapter();
    let response = ProviderResponse::new(STATUSES[usize::from(*status) % STATUSES.len()], body);
    match what % 4 {
        0 => {
            let read = adapter.read_callback(body, NOW);
            check_callback(&read, body.len());
            assert_eq!(read, adapter.read_callback(body, NOW), "reading twice gives two results");
            check_event(provider, body);
        }
        1 => {
            let id = adapter.status_id(&response);
            check_id(id.as_deref());
            let id = id.as_deref().unwrap_or("1");
            let read = adapter.read_status(&response, id, NOW);
            match &read {
                StatusResult::Task(task_status) => check_status(task_status),
                StatusResult::Refused { failure, .. } => check_failure(failure),
                StatusResult::NotFound | StatusResult::Unreadable => {}
            }
            assert_eq!(read, adapter.read_status(&response, id, NOW), "reading twice gives two results");
        }
        2 => {
            let read = adapter.read_submission(&response);
            match &read {
                SubmissionResult::Accepted { provider_task_id } => check_id(Some(provider_task_id)),
                SubmissionResult::Refused(failure) => check_failure(failure),
                SubmissionResult::Unclear(why) => assert!(why.chars().count() <= 200),
            }
            assert_eq!(read, adapter.read_submission(&response), "reading twice gives two results");
        }
        _ => {
            let read = adapter.read_resolution(&response, NOW);
            match &read {
                Ok(link) => check_link(link.url.expose()),
                Err(failure) => check_failure(failure),
            }
            assert_eq!(read, adapter.read_resolution(&response, NOW), "reading twice gives two results");
        }
    }
}

fn check_callback(read: &CallbackBody, length: usize) {
    match read {
        // A number may be written longer than it was: 1e15 has 18 characters.
        CallbackBody::Handshake(response) => assert!(response.to_string().len() <= 8 * length + 64),
        CallbackBody::Task { provider_task_id, task_status, trust } => {
            check_id(provider_task_id.as_deref());
            check_status(task_status);
            let is_foreign = *trust == BodyTrust::Hint(HintReason::ForeignBody);
            assert!(!is_foreign || provider_task_id.is_none(), "an upstream's id is not the provider's");
        }
        CallbackBody::Unreadable => {}
    }
}

/// An unsigned callback to the right URL, and what its body results in.
fn check_event(provider: Provider, body: &[u8]) {
    if !provider.calls_back() {
        let read = provider.adapter().read_callback(body, NOW);
        return assert_eq!(read, CallbackBody::Unreadable, "nobody calls back");
    }
    let id: Option<TaskId> = (!provider.has_static_url()).then(|| "fuzzed".parse().expect("a task id"));
    let path = SETTINGS.callback_keys.path(provider, id.as_ref());
    let route = Route::parse(&path).expect("a valid URL");
    let request = CallbackRequest { path: &path, query: "", headers: Headers::default(), body };
    let own = SETTINGS.provider(provider);
    let signs = !own.signing_secrets.is_empty() || !own.public_keys.is_empty();
    match route.authenticate(&request, &SETTINGS, NOW) {
        Err(_) => assert!(signs, "the provider does not sign"),
        Ok(authentic) => {
            assert!(!signs, "accepted without a signature");
            match authentic.read(&SETTINGS, NOW) {
                Event::Report(accepted) => {
                    let pollable = provider.is_pollable(own);
                    assert!(!pollable, "believed without a status poll");
                    check_raw(accepted.raw());
                    assert!(accepted.key().to_string().len() <= 800);
                }
                Event::Hint(hint) => {
                    check_raw(&hint.raw);
                    assert!(hint.key.to_string().len() <= 800);
                }
                Event::Open(open) => assert!(open.key.to_string().len() <= 800),
                Event::Keep(kept) => {
                    check_raw(&kept.raw);
                    assert!(kept.key.to_string().len() <= 800);
                }
                Event::Handshake(_) | Event::Ignored { .. } => {}
            }
        }
    }
}

fn check_raw(raw: &Raw) {
    assert!(raw.expose().len() <= reelhook_core::callback::MAX_RAW);
}

fn check_status(task_status: &TaskStatus) {
    match task_status {
        TaskStatus::Open(progress) => {
            assert!(progress.percent.is_none_or(|percent| percent <= 100));
            check_text(progress.unknown_status.as_deref());
        }
        TaskStatus::Finished(Report::Succeeded { artifacts, .. }) => check_artifacts(artifacts),
        TaskStatus::Finished(Report::Failed(failure)) => check_failure(failure),
        TaskStatus::Finished(Report::Lost(_)) => panic!("no provider reports a loss"),
    }
}

fn check_artifacts(artifacts: &[Artifact]) {
    assert!(artifacts.len() <= 50);
    for artifact in artifacts {
        match &artifact.source {
            Source::Url(url) | Source::Authorized(url) => check_link(url.expose()),
            Source::FileId(id) => check_id(Some(id)),
        }
    }
}

fn check_link(link: &str) {
    assert!(
        link.len() <= 8192
            && (link.get(..4).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http"))
                || link.starts_with(char::is_whitespace)),
        "{link:?}"
    );
}

fn check_failure(failure: &Failure) {
    check_text(failure.code.as_deref());
    check_text(failure.message.as_deref());
}

fn check_text(text: Option<&str>) {
    assert!(text.is_none_or(|text| !text.is_empty() && text.chars().count() <= 1000));
}

fn check_id(id: Option<&str>) {
    assert!(id.is_none_or(|id| !id.is_empty() && id.len() <= 1024));
}

/// `N` lines and the rest.
fn lines<const N: usize>(data: &[u8]) -> Option<([&str; N], &[u8])> {
    let mut parts = data.splitn(N + 1, |byte| *byte == b'\n');
    let mut lines = [""; N];
    for line in &mut lines {
        *line = std::str::from_utf8(parts.next()?).ok()?;
    }
    Some((lines, parts.next().unwrap_or_default()))
}

/// The text with one character replaced.
fn changed(text: &str, place: u8, to: u8) -> String {
    let place = usize::from(place) % text.len();
    let place = text.floor_char_boundary(place);
    let mut letters: Vec<char> = text.chars().collect();
    let index = text[..place].chars().count();
    let to = char::from(b' ' + to % 95);
    letters[index] = if letters[index] == to { if to == 'x' { 'y' } else { 'x' } } else { to };
    letters.into_iter().collect()
}

/// The same with one byte changed.
fn changed_bytes(bytes: &[u8], place: u8, to: u8) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let place = usize::from(place) % bytes.len();
    bytes[place] ^= to.max(1);
    bytes
}

/// Callback URLs. With an even first byte, no path is accepted. With an odd one, a generated URL is accepted, and is refused when
/// one character of it changes.
pub fn route(data: &[u8]) {
    let [mode, place, to, rest @ ..] = data else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let keys = &SETTINGS.callback_keys;
    let is_accepted = |path: &str| {
        let request = CallbackRequest { path, query: "", headers: Headers::default(), body: b"{}" };
        // A missing signature means that the token was accepted.
        Route::parse(path).is_ok_and(|route| match route.authenticate(&request, &SETTINGS, NOW) {
            Ok(_) | Err(Refusal::Missing(_)) => true,
            Err(_) => false,
        })
    };
    if mode % 2 == 0 {
        assert!(!is_accepted(text));
        for provider in Provider::ALL {
            assert!(!keys.accept(provider, None, text));
        }
        return;
    }
    let provider = Provider::ALL[usize::from(mode / 2) % Provider::ALL.len()];
    let id: Option<TaskId> = text.parse().ok();
    let path = keys.path(provider, id.as_ref());
    let is_issued = provider.calls_back() && (id.is_some() || provider.has_static_url());
    if !is_issued {
        return assert!(!is_accepted(&path), "a URL that is never issued");
    }
    for form in ["", "/", "/callback", "/callback/"] {
        assert!(is_accepted(&format!("{path}{form}")), "a generated URL is accepted");
    }
    assert!(!is_accepted(&changed(&path, *place, *to)));
}

/// A line of `explain --lines`.
pub fn line(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let explained = |settings: Option<&Settings>| explain_line(text, settings, NOW).ok();
    let read = explained(Some(&SETTINGS));
    if let Some(explanation) = &read {
        check_explanation(explanation);
    }
    assert_eq!(read, explained(Some(&SETTINGS)), "reading twice gives two results");
    // The whole text as a body of some provider.
    if let Some(provider) = data.first().map(|byte| Provider::ALL[usize::from(*byte) % Provider::ALL.len()]) {
        for kind in [BodyKind::Callback, BodyKind::Status, BodyKind::Submission] {
            check_explanation(&explain(&ReceivedBody {
                provider,
                kind,
                body: &data[1..],
                http_status: 200,
                requested_id: None,
                headers: Some(Headers::default()),
                path: "/",
                query: "",
                settings: Some(SETTINGS.provider(provider)),
                now: NOW,
            }));
        }
    }
}

fn check_explanation(explanation: &Explanation) {
    assert_ne!(explanation.authentic, Some(Value::Bool(true)), "not signed");
    check_artifacts(&explanation.artifacts);
    check_text(explanation.code.as_deref());
    check_text(explanation.message.as_deref());
    let json = serde_json::to_string(explanation).expect("it serialises");
    assert!(!json.contains('\n'), "one line of output");
}

/// The settings document, or a queue message.
pub fn documents(data: &[u8]) {
    let [what, text @ ..] = data else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    if what % 2 == 0 {
        if let Ok(settings) = Settings::parse(text) {
            let printed = format!("{:?}", settings.callback_keys);
            assert!(!printed.contains("whsec_"), "{printed}");
            for provider in Provider::ALL {
                let one = settings.provider(provider);
                assert!(one.signing_secrets.iter().all(|secret: &Secret| !secret.is_empty()));
            }
        }
    } else if let Ok(message) = Message::parse(text) {
        let again = Message::parse(&message.to_json()).expect("a parsed message can be parsed again");
        assert_eq!(message, again);
        let key: TaskKey = message.task.to_string().parse().expect("a key is a key");
        assert_eq!(key, message.task);
    }
}

/// What a fuzzer starts from, with a few random changes, so that `cargo test` sees when a target is broken by itself.
#[cfg(test)]
mod tests {
    use super::*;

    /// Xorshift.
    struct Draw(u64);

    impl Draw {
        fn below(&mut self, end: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 % end as u64).expect("it is below a usize")
        }

        fn byte(&mut self) -> u8 {
            u8::try_from(self.below(256)).expect("it is below 256")
        }
    }

    /// The bodies in `events/providers`.
    fn bodies() -> Vec<(Provider, Vec<u8>)> {
        let mut bodies = Vec::new();
        for provider in Provider::ALL {
            let folder = format!("{}/../../events/providers/{provider}", env!("CARGO_MANIFEST_DIR"));
            for file in std::fs::read_dir(folder).expect("every provider has bodies") {
                let text = std::fs::read(file.expect("an entry").path()).expect("it can be read");
                let fixture: Value = serde_json::from_slice(&text).expect("it is JSON");
                let body = fixture["raw"].as_str().map_or_else(|| fixture["body"].to_string(), str::to_owned);
                bodies.push((provider, body.into_bytes()));
            }
        }
        bodies
    }

    #[test]
    fn every_target_holds_around_the_known_bodies() {
        let (bodies, mut draw) = (bodies(), Draw(88_172_645_463_325_252));
        assert!(bodies.len() > 400, "{}", bodies.len());
        for round in 0..5_000 {
            let (provider, mut body) = bodies[round % bodies.len()].clone();
            for _ in 0..draw.below(4) {
                let place = draw.below(body.len().max(1));
                if let Some(byte) = body.get_mut(place) {
                    *byte = *[b'0', b'"', b'{', b',', draw.byte()].get(draw.below(5)).expect("one of five");
                }
            }
            let name = format!("{provider}\n");
            parse(&[name.as_bytes(), &[draw.byte(), draw.byte()], &body].concat());
            let ids = format!("id{}\nid{}\nid{}\n", draw.below(9), draw.below(9), draw.below(9));
            let request = [&[draw.byte(), draw.byte(), draw.byte()], ids.as_bytes(), &body].concat();
            for provider in Provider::ALL {
                verify(&[format!("{provider}\n").as_bytes(), &request].concat());
            }
            route(&request);
            line(&request);
            documents(&request);
        }
    }
}
