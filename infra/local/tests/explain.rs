//! `cargo run -- explain`, run as on a terminal.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::{Map, Value, json};

const SETTINGS: &str = r#"{"version":1,"callback":{"keys":["sixteen-characters"]},
    "providers":{"kling":{"signing_secrets":["whsec_dGVzdHNlY3JldHRlc3RzZWNyZXR0ZXN0c2VjcmV0MTI="]}}}"#;

/// Kling's published vector.
const BODY: &str =
    r#"{"id":"1234567890","status":"succeeded","message":"","create_time":1781080778802,"update_time":1781080794151}"#;
const HEADERS: [&str; 6] = [
    "--header",
    "Webhook-Id: 9876543210",
    "--header",
    "Webhook-Timestamp: 1781080794",
    "--header",
    "Webhook-Signature: v1,UsKlJP00XoQyOn410NM9xv34sP+Gl0jnOO9Lcpr7NJ4=",
];

fn explain(arguments: &[&str], input: &[u8]) -> Output {
    let mut process = Command::new(env!("CARGO_BIN_EXE_local"))
        .arg("explain")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = process.stdin.take().expect("it reads");
    let input = input.to_vec();
    // In a thread, because early output could fill the pipe. A run with invalid arguments reads nothing.
    let writer = std::thread::spawn(move || {
        let _ = stdin.write_all(&input);
    });
    let output = process.wait_with_output().expect("it ends");
    writer.join().expect("the writer ends");
    output
}

/// The output, parsed line by line, of a run without errors.
fn explanations(output: &Output) -> Vec<Value> {
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let text = str::from_utf8(&output.stdout).expect("it writes UTF-8");
    assert!(text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).expect("every line is JSON")).collect()
}

fn settings_file() -> String {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("settings-{}.json", std::process::id()));
    fs::write(&path, SETTINGS).expect("it can be written");
    path.to_str().expect("a path of this project").to_owned()
}

/// Names, input lines and expected output of all fixtures.
fn fixtures() -> (Vec<String>, Vec<String>, Vec<Value>) {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../events/providers");
    let (mut names, mut lines, mut expected) = (vec![], vec![], vec![]);
    for folder in fs::read_dir(root).expect("the folder can be listed").filter_map(Result::ok) {
        let Ok(files) = fs::read_dir(folder.path()) else { continue };
        for file in files.filter_map(Result::ok) {
            let text = fs::read_to_string(file.path()).expect("a fixture");
            // Signed bodies are in `raw`, so the order of fields in `body` does not matter.
            let raw: Map<String, Value> = serde_json::from_str(&text).expect("a fixture is JSON");
            let mut line = raw.clone();
            line.insert("provider".to_owned(), folder.file_name().to_string_lossy().into());
            let headers = raw["headers"].as_array().expect("a list of pairs");
            if headers.len() < 2 && !raw.contains_key("settings") {
                line.remove("headers");
            }
            for field in ["about", "source", "repeats", "method", "expect"] {
                line.remove(field);
            }
            let mut explanation = json!({
                "provider_task_id": null, "artifacts": [], "reason": null, "retryable": null, "code": null, "message": null,
            });
            let fields = explanation.as_object_mut().expect("an object");
            fields.extend(raw["expect"].as_object().expect("an object").clone());
            names.push(file.path().display().to_string());
            lines.push(Value::Object(line).to_string());
            expected.push(explanation);
        }
    }
    (names, lines, expected)
}

#[test]
fn every_fixture_is_explained_in_one_run() {
    let (names, lines, expected) = fixtures();
    assert!(names.len() > 200, "only {} fixtures were found", names.len());
    let found = explanations(&explain(&["--lines"], lines.join("\n").as_bytes()));
    assert_eq!(found.len(), names.len());
    for ((name, found), expected) in names.iter().zip(found).zip(expected) {
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn a_body_is_explained_as_one_line_of_json() {
    let body = json!({"code": 1102, "message": "pack used up"}).to_string();
    let found = explanations(&explain(&["kling", "submission", "--http-status", "429"], body.as_bytes()));
    let expected = json!({
        "outcome": "failed", "provider_task_id": null, "artifacts": [], "reason": "insufficient_credits",
        "retryable": false, "code": "1102", "message": "pack used up",
    });
    assert_eq!(found, [expected]);
    let arguments = ["kling", "status", "--requested-id", "8"];
    let list = json!({"code": 0, "data": [{"id": "7", "status": "failed"}, {"id": "8", "status": "processing"}]});
    let found = explanations(&explain(&arguments, list.to_string().as_bytes()));
    assert_eq!((&found[0]["outcome"], &found[0]["provider_task_id"]), (&"open".into(), &"8".into()));
}

#[test]
fn signatures_are_verified_over_the_exact_bytes() {
    let settings = settings_file();
    let mut arguments = vec!["kling", "callback", "--settings", &settings, "--now", "1781080800"];
    arguments.extend(HEADERS);
    let good = &explanations(&explain(&arguments, BODY.as_bytes()))[0];
    assert_eq!((&good["authentic"], &good["provider_task_id"]), (&true.into(), &"1234567890".into()));
    let with_newline = &explanations(&explain(&arguments, format!("{BODY}\n").as_bytes()))[0];
    assert_eq!(with_newline["authentic"], false);
    assert_eq!(with_newline["authentic_reason"], "the signature is wrong");
    assert_eq!(with_newline["outcome"], good["outcome"]);
    let stale = &explanations(&explain(&arguments[..4], BODY.as_bytes()))[0];
    assert_eq!(stale["authentic"], false);
    let unsigned = &explanations(&explain(&[&["kling", "callback"], &HEADERS[..]].concat(), BODY.as_bytes()))[0];
    assert_eq!(unsigned["authentic"], "unsigned");
}

#[test]
fn a_bad_line_does_not_stop_the_others() {
    let good = r#"{"provider":"minimax","kind":"callback","body":{"challenge":"c"}}"#;
    let mut input = format!("{good}\r\n\nnothing\n[1]\n{{\"provider\":\"nobody\",\"kind\":\"status\",\"body\":1}}\n");
    input.push_str("{\"provider\":\"kling\",\"kind\":\"status\"}\n");
    let mut input = input.into_bytes();
    input.extend(b"\xff\n");
    input.extend(good.as_bytes());
    let found = explanations(&explain(&["--lines"], &input));
    assert_eq!(found.len(), 8);
    for good in [&found[0], &found[7]] {
        assert_eq!(good["response"], json!({"challenge": "c"}));
    }
    for (bad, words) in found[1..7].iter().zip(["not a JSON", "not a JSON", "not a JSON", "nobody", "neither", "UTF-8"])
    {
        assert!(bad["error"].as_str().is_some_and(|error| error.contains(words)), "{bad}");
    }
    assert!(explain(&["--lines"], b"").stdout.is_empty());
}

#[test]
fn thousands_of_lines_are_explained_quickly() {
    let (_, lines, _) = fixtures();
    let many: Vec<&str> = lines.iter().map(String::as_str).cycle().take(20_000).collect();
    let started = std::time::Instant::now();
    assert_eq!(explanations(&explain(&["--lines"], many.join("\n").as_bytes())).len(), many.len());
    // About a second in a debug build; the bound is wide for slow machines.
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
}

#[test]
fn errors_have_a_message_and_exit_code_2() {
    let missing = "no/such/settings.json";
    for (arguments, words) in [
        (&["klingon", "callback"][..], "unknown provider"),
        (&["kling", "guess"], "callback, status, submission or file"),
        (&["kling"], "<KIND>"),
        (&["kling", "status", "--http-status", "many"], "--http-status"),
        (&["kling", "callback", "--header", "nonsense"], "Name: value"),
        (&["--lines", "--path", "/x"], "--lines"),
        (&["kling", "callback", "--settings", missing], missing),
        (&["kling", "callback", "--settings", env!("CARGO_BIN_EXE_local")], "cannot read"),
    ] {
        let output = explain(arguments, b"{}");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains(words), "{arguments:?}: {error}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}
