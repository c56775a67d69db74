//! Each provider from the outside: submit, be called back, poll, download.

mod receiver;

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, Mac as _};
use receiver::{Received, Receiver};
use reqwest::header::AUTHORIZATION;
use serde_json::{Value, json};
use sha2::Sha256;
use simulator::{
    Call, Challenge, Config, DeliveryKind, Outcome, Phase, Provider, Shape, Signing, Simulator, TaskView, Trouble,
};

const SOON: Duration = Duration::from_secs(10);

fn start(config: Config) -> Simulator {
    Simulator::start(config).expect("the simulator starts")
}

/// A customer of one provider.
struct Customer<'a> {
    simulator: &'a Simulator,
    provider: Provider,
    client: reqwest::Client,
}

impl<'a> Customer<'a> {
    fn new(simulator: &'a Simulator, provider: Provider) -> Self {
        let client = reqwest::Client::builder().user_agent("reelhook-test/1").build().expect("a client");
        Self { simulator, provider, client }
    }

    fn authorization(&self) -> String {
        let scheme = if self.provider == Provider::Vidu { "Token" } else { "Bearer" };
        format!("{scheme} {}", self.simulator.config().account(self.provider).api_key)
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.simulator.base_url(self.provider))
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> (u16, Value) {
        let response = request.send().await.expect("an answer");
        let status = response.status().as_u16();
        (status, response.json().await.expect("JSON"))
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.send(self.client.post(self.url(path)).header(AUTHORIZATION, self.authorization()).json(body)).await
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.send(self.client.get(self.url(path)).header(AUTHORIZATION, self.authorization())).await
    }

    async fn download(&self, url: &str) -> (u16, Vec<u8>) {
        let response = self.client.get(url).send().await.expect("an answer");
        (response.status().as_u16(), response.bytes().await.expect("a body").to_vec())
    }
}

/// One way into a provider. `{url}` in the body is the callback URL, `{id}` in paths the task's id, `{script}` in the
/// body the text of the script.
struct Way {
    provider: Provider,
    submit: &'static str,
    body: Value,
    /// Where the answer to the submission has the id.
    id: &'static str,
    status: &'static str,
    /// Where the status has the state, and what it says in the end.
    state: (&'static str, &'static str),
    /// Where the status has the link.
    link: &'static str,
    /// Where the callback has the state, and what it says in the end.
    told: (&'static str, Value),
    /// Where the callback has the id; empty when it has another one.
    told_id: &'static str,
    /// How many callbacks come, the final one among them.
    callbacks: usize,
    shape: Shape,
}

fn way(provider: Provider) -> Way {
    Way {
        provider,
        submit: "",
        body: Value::Null,
        id: "/data/task_id",
        status: "",
        state: ("", ""),
        link: "",
        told: ("", Value::Null),
        told_id: "",
        callbacks: 1,
        shape: Shape::A,
    }
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn ways() -> Vec<Way> {
    let relay = |shape, id, status, state, link, told, told_id| Way {
        submit: "/video/generations",
        body: json!({ "model": "seedance", "prompt": "{script}", "seconds": "5", "metadata": { "callback_url": "{url}" } }),
        id,
        status,
        state,
        link,
        told,
        told_id,
        callbacks: if shape == Shape::D { 3 } else { 1 },
        shape,
        ..way(Provider::RelayDance)
    };
    let apimp = |model: &str, told: (&'static str, Value), callbacks| Way {
        submit: "/api/generate/submit",
        body: json!({ "model": model, "input": { "prompt": "{script}", "metadata": { "callback_url": "{url}" } } }),
        status: "/api/generate/status/{id}",
        state: ("/data/status", "finished"),
        link: "/data/files/0/file_url",
        told,
        callbacks,
        ..way(Provider::Apimp)
    };
    vec![
        Way {
            submit: "/text-to-video/kling-2.6",
            body: json!({ "prompt": "{script}", "settings": { "duration": 5 }, "options": { "callback_url": "{url}", "external_task_id": "own-1" } }),
            id: "/data/id",
            status: "/tasks?task_ids={id}",
            state: ("/data/0/status", "succeeded"),
            link: "/data/0/outputs/0/url",
            told: ("/status", json!("succeeded")),
            told_id: "/id",
            callbacks: 3,
            ..way(Provider::Kling)
        },
        Way {
            submit: "/v1/videos/text2video",
            body: json!({ "prompt": "{script}", "model_name": "kling-v2", "duration": "5", "callback_url": "{url}" }),
            status: "/v1/videos/text2video/{id}",
            state: ("/data/task_status", "succeed"),
            link: "/data/task_result/videos/0/url",
            told: ("/task_status", json!("succeed")),
            told_id: "/task_id",
            callbacks: 3,
            ..way(Provider::Kling)
        },
        Way {
            submit: "/api/v1/task/submit",
            body: json!({ "model": "seedance-2.0-fast", "input": { "prompt": "{script}" }, "callBackUrl": "{url}" }),
            id: "/data/taskId",
            status: "/api/v1/task/{id}",
            state: ("/data/status", "SUCCESS"),
            link: "/data/result/urls/0",
            told: ("/data/status", json!("SUCCESS")),
            told_id: "/data/taskId",
            ..way(Provider::MaxApi)
        },
        Way {
            submit: "/videos/generations",
            body: json!({ "model": "sora-2", "prompt": "{script}", "webhook": "{url}/" }),
            id: "/data/0/task_id",
            status: "/tasks/{id}?language=en",
            state: ("/data/status", "completed"),
            link: "/data/result/videos/0/url/0",
            told: ("/data/status", json!("completed")),
            told_id: "/data/id",
            ..way(Provider::ApiMart)
        },
        Way {
            submit: "/contents/generations/tasks",
            body: json!({ "model": "doubao-seedance", "content": [{ "type": "text", "text": "{script}" }], "callback_url": "{url}" }),
            id: "/id",
            status: "/contents/generations/tasks/{id}",
            state: ("/status", "succeeded"),
            link: "/content/video_url",
            told: ("/status", json!("succeeded")),
            told_id: "/id",
            callbacks: 3,
            ..way(Provider::Ark)
        },
        Way {
            submit: "/v2/video_generation",
            body: json!({ "model": "MiniMax-H3", "content": [{ "type": "text", "text": "{script}" }], "callback_url": "{url}" }),
            id: "/task_id",
            status: "/v2/query/video_generation/{id}",
            state: ("/task/status", "succeeded"),
            link: "/task/content/url",
            told: ("/task/status", json!("succeeded")),
            told_id: "/task/id",
            callbacks: 4,
            ..way(Provider::MiniMax)
        },
        Way {
            submit: "/ent/v2/text2video",
            body: json!({ "model": "viduq3-turbo", "prompt": "{script}", "payload": "own-1", "callback_url": "{url}" }),
            id: "/task_id",
            status: "/ent/v2/tasks/{id}/creations",
            state: ("/state", "success"),
            link: "/creations/0/url",
            told: ("/state", json!("success")),
            told_id: "/id",
            callbacks: 2,
            ..way(Provider::Vidu)
        },
        Way {
            submit: "/api/v1/runway/generate",
            body: json!({ "prompt": "{script}", "duration": 5, "quality": "720p", "callBackUrl": "{url}" }),
            id: "/data/taskId",
            status: "/api/v1/runway/record-detail?taskId={id}",
            state: ("/data/state", "success"),
            link: "/data/videoInfo/videoUrl",
            told: ("/code", json!(200)),
            told_id: "/data/task_id",
            ..way(Provider::Kie)
        },
        Way {
            submit: "/api/v1/veo/generate",
            body: json!({ "prompt": "{script}", "callBackUrl": "{url}" }),
            id: "/data/taskId",
            status: "/api/v1/veo/record-info?taskId={id}",
            state: ("/data/response/resolution", "1080p"),
            link: "/data/response/resultUrls/0",
            told: ("/code", json!(200)),
            told_id: "/data/taskId",
            ..way(Provider::Kie)
        },
        apimp("kling-2.6", ("/task_status", json!("succeed")), 3),
        apimp("doubao-seedance-2", ("/status", json!("succeeded")), 3),
        apimp("vidu-q3", ("/state", json!("success")), 2),
        apimp("minimax-hailuo-2.3", ("/status", json!("success")), 3),
        relay(
            Shape::A,
            "/task_id",
            "/video/generations/{id}",
            ("/status", "succeeded"),
            "/url",
            ("/status", json!("succeeded")),
            "/task_id",
        ),
        relay(
            Shape::B,
            "/id",
            "/videos/{id}",
            ("/status", "completed"),
            "/metadata/url",
            ("/status", json!("completed")),
            "/id",
        ),
        relay(
            Shape::C,
            "/data/task_id",
            "/video/generations/{id}",
            ("/data/status", "SUCCESS"),
            "/data/result_url",
            ("/data/status", json!("SUCCESS")),
            "/data/task_id",
        ),
        relay(
            Shape::D,
            "/task_id",
            "/video/generations/{id}",
            ("/status", "succeeded"),
            "/url",
            ("/status", json!("succeeded")),
            "",
        ),
    ]
}

fn filled(body: &Value, url: &str, script: &str) -> Value {
    let text = body.to_string().replace("{url}", url).replace("{script}", script);
    serde_json::from_str(&text).expect("still JSON")
}

/// What a provider posted, the check of the URL aside.
fn body_of(callback: &Received) -> Value {
    serde_json::from_slice(&callback.body).expect("callbacks are JSON")
}

#[tokio::test]
async fn every_way_in_leads_to_a_callback_a_status_and_a_file() {
    for way in ways() {
        let name = format!("{} {}", way.provider, way.submit);
        let simulator = start(Config { relaydance_shape: way.shape, ..Config::default() });
        let receiver = Receiver::start().await;
        let customer = Customer::new(&simulator, way.provider);

        let body = filled(&way.body, &receiver.url("/hook"), "a cat [simulate delay=0.3 size=20000]");
        let (status, answer) = customer.post(way.submit, &body).await;
        assert_eq!(status, 200, "{name}: {answer}");
        let id = answer.pointer(way.id).and_then(Value::as_str).unwrap_or_else(|| panic!("{name}: {answer}"));

        let (_, open) = customer.get(&way.status.replace("{id}", id)).await;
        assert_ne!(open.pointer(way.state.0), Some(&json!(way.state.1)), "{name}: open at first");
        assert_eq!(open.pointer(way.link).and_then(Value::as_str).unwrap_or_default(), "", "{name}: no link yet");

        let arrived = receiver.wait_for(way.callbacks).await;
        assert_eq!(arrived.len(), way.callbacks, "{name}: {arrived:?}");
        let last = arrived.last().expect("at least one");
        let told = body_of(last);
        assert_eq!(told.pointer(way.told.0), Some(&way.told.1), "{name}: {told}");
        if way.told_id.is_empty() {
            assert!(!told.to_string().contains(id), "{name}: the sender has an id of its own");
        } else {
            assert_eq!(told.pointer(way.told_id), Some(&json!(id)), "{name}: {told}");
        }
        let path = if way.provider == Provider::ApiMart { "/hook/callback" } else { "/hook" };
        assert_eq!(last.path, path, "{name}");

        let (status, done) = customer.get(&way.status.replace("{id}", id)).await;
        assert_eq!(status, 200, "{name}");
        assert_eq!(done.pointer(way.state.0), Some(&json!(way.state.1)), "{name}: {done}");
        let link = done.pointer(way.link).and_then(Value::as_str).unwrap_or_else(|| panic!("{name}: {done}"));
        let (status, bytes) = customer.download(link).await;
        assert_eq!(status, 200, "{name}: {link}");
        assert_eq!(bytes.len(), 20_000, "{name}");
        assert_eq!(bytes, simulator.file(id), "{name}");

        let submissions = simulator.submissions();
        assert_eq!(submissions.len(), 1, "{name}");
        assert_eq!(submissions[0].body, body.to_string().as_bytes(), "{name}: byte for byte");
        assert_eq!(submissions[0].task_id.as_deref(), Some(id), "{name}");
    }
}

#[tokio::test]
async fn every_provider_refuses_a_wrong_key_and_an_unknown_script() {
    for way in ways() {
        let name = format!("{} {}", way.provider, way.submit);
        let simulator = start(Config::default());
        let customer = Customer::new(&simulator, way.provider);
        let body = filled(&way.body, "http://127.0.0.1:1/", "[simulate colour=red]");
        let (_, refused) = customer.post(way.submit, &body).await;
        assert!(refused.to_string().contains("unknown key"), "{name}: {refused}");

        let wrong = customer.client.post(customer.url(way.submit)).header(AUTHORIZATION, "Bearer wrong").json(&body);
        let (status, refused) = customer.send(wrong).await;
        assert_eq!(status, 401, "{name}: {refused}");
        let none = customer.client.get(customer.url(&way.status.replace("{id}", "1")));
        assert_eq!(customer.send(none).await.0, 401, "{name}");

        assert_eq!(simulator.submission_count(way.provider), 2, "{name}: refused ones count");
        assert!(simulator.tasks().is_empty(), "{name}");
        assert_eq!(simulator.calls(way.provider, Call::Submit), 2, "{name}");
        assert_eq!(simulator.calls(way.provider, Call::Status), 1, "{name}");
    }
}

#[tokio::test]
async fn every_provider_tells_of_every_outcome() {
    let outcomes = ["fail", "moderated", "timeout", "cancelled", "expired"];
    for way in ways() {
        let simulator = start(Config { relaydance_shape: way.shape, ..Config::default() });
        let customer = Customer::new(&simulator, way.provider);
        for outcome in outcomes {
            let name = format!("{} {} {outcome}", way.provider, way.submit);
            let mut body = filled(
                &way.body,
                "http://127.0.0.1:1/",
                &format!("[simulate outcome={outcome} delay=0 callback=lose]"),
            );
            if let Some(own) = body.pointer_mut("/options/external_task_id") {
                *own = json!(name);
            }
            let (_, answer) = customer.post(way.submit, &body).await;
            let id = answer.pointer(way.id).and_then(Value::as_str).unwrap_or_else(|| panic!("{name}: {answer}"));
            let (status, done) = customer.get(&way.status.replace("{id}", id)).await;
            assert_eq!(status, 200, "{name}");
            assert_ne!(done.pointer(way.state.0), Some(&json!(way.state.1)), "{name}: {done}");
            let words = done.to_string().to_lowercase();
            let known = ["fail", "timeout", "cancelled", "expired", "\"successflag\":2", "\"successflag\":3"];
            assert!(known.iter().any(|word| words.contains(word)), "{name}: {done}");
        }
    }
}

#[tokio::test]
async fn minimax_of_the_first_generation_gives_a_file_id_and_then_a_link() {
    let simulator = start(Config::default());
    let receiver = Receiver::start().await;
    let customer = Customer::new(&simulator, Provider::MiniMax);
    let body = json!({ "model": "MiniMax-Hailuo-2.3", "prompt": "x [simulate delay=0.2 size=9000 link=dead]", "callback_url": receiver.url("/hook") });
    let (_, answer) = customer.post("/v1/video_generation", &body).await;
    assert_eq!(answer["base_resp"]["status_code"], 0);
    let id = answer["task_id"].as_str().expect("an id");

    let arrived = receiver.wait_for(3).await;
    assert!(body_of(&arrived[0])["challenge"].is_string(), "the check comes first");
    assert_eq!(body_of(&arrived[1])["status"], "processing");
    let told = body_of(&arrived[2]);
    assert_eq!(told["status"], "success");
    assert!(!told.to_string().contains("http"), "no link in the callback: {told}");

    let (_, done) = customer.get(&format!("/v1/query/video_generation?task_id={id}")).await;
    assert_eq!((&done["status"], &done["file_id"]), (&json!("Success"), &told["file_id"]));
    let retrieve = format!("/v1/files/retrieve?file_id={}", told["file_id"].as_str().expect("an id"));
    let mut links = Vec::new();
    for expected in [403, 200] {
        let (_, file) = customer.get(&retrieve).await;
        assert_eq!(file["file"]["bytes"], 0);
        let link = file["file"]["download_url"].as_str().expect("a link").to_owned();
        assert_eq!(customer.download(&link).await.0, expected, "the first link is dead as the script asks");
        links.push(link);
    }
    assert_ne!(links[0], links[1]);
    assert_eq!(customer.download(&links[1]).await.1, simulator.file(id));

    let (status, unknown) = customer.get("/v1/query/video_generation?task_id=1").await;
    assert_eq!((status, &unknown["base_resp"]["status_code"]), (200, &json!(2013)));
}

#[tokio::test]
async fn minimax_is_silent_to_a_receiver_that_fails_its_check() {
    for challenge in [Challenge::Silent, Challenge::Required, Challenge::Skipped] {
        let simulator = start(Config { minimax_challenge: challenge, ..Config::default() });
        let receiver = Receiver::start().await;
        receiver.answer_with(&[404]);
        let customer = Customer::new(&simulator, Provider::MiniMax);
        let body = json!({ "model": "m", "prompt": "[simulate delay=0.1]", "callback_url": receiver.url("/hook") });
        let (_, answer) = customer.post("/v1/video_generation", &body).await;
        let id = answer["task_id"].as_str().expect("an id or an empty one").to_owned();
        match challenge {
            Challenge::Required => {
                assert_eq!(answer["base_resp"]["status_code"], 2013);
                assert!(simulator.tasks().is_empty());
            }
            Challenge::Silent => {
                tokio::time::sleep(Duration::from_millis(400)).await;
                let task = simulator.task(&id).expect("made all the same");
                assert_eq!(task.deliveries.len(), 1, "the check, and nothing more");
                assert_eq!(task.deliveries[0].kind, DeliveryKind::Challenge);
            }
            Challenge::Skipped => {
                let arrived = receiver.wait_for(2).await;
                assert_eq!(body_of(&arrived[0])["status"], "processing");
            }
        }
    }
}

#[tokio::test]
async fn kie_market_wraps_its_links_in_a_string_and_renews_them_on_request() {
    let simulator = start(Config::default());
    let receiver = Receiver::start().await;
    let customer = Customer::new(&simulator, Provider::Kie);
    let body = json!({ "model": "grok-imagine", "input": { "prompt": "[simulate delay=0.1 size=9000 link=dead]" }, "callBackUrl": receiver.url("/hook") });
    let (_, answer) = customer.post("/api/v1/jobs/createTask", &body).await;
    let id = answer["data"]["taskId"].as_str().expect("an id");
    let told = body_of(&receiver.wait_for(1).await[0]);
    assert_eq!((&told["code"], &told["data"]["state"]), (&json!(200), &json!("success")));
    let result = told["data"]["resultJson"].as_str().expect("a string");
    let result: Value = serde_json::from_str(result).expect("JSON in it");
    let dead = result["resultUrls"][0].as_str().expect("a link").to_owned();
    assert_eq!(customer.download(&dead).await.0, 403);
    let (_, again) = customer.get(&format!("/api/v1/jobs/recordInfo?taskId={id}")).await;
    assert_eq!(again["data"]["resultJson"], told["data"]["resultJson"], "a status call does not help");

    let (_, fresh) = customer.post("/api/v1/common/download-url", &json!({ "url": dead })).await;
    let link = fresh["data"].as_str().expect("a link").to_owned();
    assert_eq!(customer.download(&link).await, (200, simulator.file(id)));
    let (_, foreign) = customer.post("/api/v1/common/download-url", &json!({ "url": "https://example.com/a" })).await;
    assert_eq!(foreign["code"], 422);

    let library = reqwest::Client::new().get(&link).header("user-agent", "python-requests/2.31").send().await;
    assert_eq!(library.expect("an answer").status(), 403, "a library's own name is turned away");
}

fn hmac(key: &[u8], text: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length");
    mac.update(text);
    BASE64_STANDARD.encode(mac.finalize().into_bytes())
}

#[tokio::test]
async fn signatures_hold_at_the_receiver() {
    let config = Config::default()
        .with_signing_secret(Provider::Kling, Some("whsec_dGVzdHNlY3JldHRlc3RzZWNyZXR0ZXN0c2VjcmV0MTI=".to_owned()));
    let simulator = start(config);
    let receiver = Receiver::start().await;

    let customer = Customer::new(&simulator, Provider::Kling);
    let body = json!({ "prompt": "[simulate delay=0]", "callback_url": receiver.url("/kling") });
    customer.post("/v1/videos/text2video", &body).await;
    let arrived = receiver.wait_for(3).await;
    for callback in &arrived {
        let signed = format!("{}.{}.", callback.header("webhook-id"), callback.header("webhook-timestamp"));
        let signed = [signed.as_bytes(), &callback.body].concat();
        let expected = hmac(b"testsecrettestsecrettestsecret12", &signed);
        assert_eq!(callback.header("webhook-signature"), format!("v1,{expected}"));
        assert_eq!(callback.header("content-type"), "application/json; charset=utf-8");
    }
    assert_ne!(arrived[0].header("webhook-id"), arrived[1].header("webhook-id"));

    // A stand-in for AWS puts a path in front that the function does not see.
    let customer = Customer::new(&simulator, Provider::Vidu);
    let url = receiver.url("/_aws/lambda-url/abc123/callback/vidu/1/token?a=b");
    customer
        .post("/ent/v2/text2video", &json!({ "model": "m", "prompt": "[simulate delay=0]", "callback_url": url }))
        .await;
    let arrived = receiver.wait_for(5).await;
    let callback = &arrived[4];
    let (date, nonce) = (callback.header("date"), callback.header("x-request-nonce"));
    let signed = format!("POST\n/callback/vidu/1/token\na=b\nvidu\n{date}\nDate:{date}\nx-request-nonce:{nonce}\n");
    assert_eq!(callback.header("x-hmac-signature"), hmac(b"vidu-api-key", signed.as_bytes()));
    assert_eq!(callback.header("x-hmac-signed-headers"), "Date;x-request-nonce");
    assert_ne!(arrived[3].header("x-request-nonce"), nonce);

    let customer = Customer::new(&simulator, Provider::Kie);
    let body = json!({ "prompt": "[simulate delay=0]", "callBackUrl": receiver.url("/kie") });
    let (_, answer) = customer.post("/api/v1/veo/generate", &body).await;
    let callback = receiver.wait_for(6).await.remove(5);
    let signed =
        format!("{}.{}", answer["data"]["taskId"].as_str().expect("an id"), callback.header("x-webhook-timestamp"));
    assert_eq!(callback.header("x-webhook-signature"), hmac(b"kie-webhook-hmac-key", signed.as_bytes()));
}

#[tokio::test]
async fn nothing_is_signed_when_signing_is_off() {
    let simulator = start(Config { signing: Signing::Unsigned, ..Config::default() });
    let receiver = Receiver::start().await;
    let customer = Customer::new(&simulator, Provider::Kling);
    let body = json!({ "prompt": "[simulate delay=0]", "callback_url": receiver.url("/hook") });
    customer.post("/v1/videos/text2video", &body).await;
    assert_eq!(receiver.wait_for(1).await[0].header("webhook-signature"), "");
}

#[tokio::test]
async fn kling_takes_a_token_for_its_legacy_paths_only() {
    let pair = simulator::AccessKey { access_key: "ak-test".to_owned(), secret_key: "sk-test".to_owned() };
    let simulator = start(Config { kling_access_key: Some(pair), ..Config::default() });
    let customer = Customer::new(&simulator, Provider::Kling);
    // Of the provider's file: ended in 2026, so it is known and expired.
    let token = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJhay10ZXN0IiwiZXhwIjoxNzY3MjI3NDAwLCJuYmYiOjE3NjcyMjU1OTV9.dDxpWSVSj5kNmv3WvJxz25pk9735kQ4OjYPb-MoIoH0";
    for (path, code) in [("/v1/videos/text2video", 1004), ("/text-to-video/kling-2.6", 1002)] {
        let request = customer.client.post(customer.url(path)).header(AUTHORIZATION, format!("Bearer {token}"));
        let (status, refused) = customer.send(request.json(&json!({ "prompt": "x" }))).await;
        assert_eq!((status, &refused["code"]), (401, &json!(code)), "{path}");
    }
}

#[tokio::test]
async fn kling_asks_for_several_at_once_and_keeps_customers_ids_apart() {
    let simulator = start(Config::default());
    let customer = Customer::new(&simulator, Provider::Kling);
    let body = |own: &str| json!({ "prompt": "x [simulate delay=0]", "options": { "external_task_id": own } });
    let (_, one) = customer.post("/text-to-video/kling-2.6", &body("one")).await;
    let (_, two) = customer.post("/text-to-video/kling-2.6", &body("two")).await;
    let (status, again) = customer.post("/text-to-video/kling-2.6", &body("two")).await;
    assert_eq!((status, &again["code"]), (400, &json!(1201)), "unique in an account");

    let id = |answer: &Value| answer["data"]["id"].as_str().expect("an id").to_owned();
    let (_, both) = customer.get(&format!("/tasks?task_ids={},{},unknown", id(&one), id(&two))).await;
    assert_eq!(both["data"].as_array().map(Vec::len), Some(2));
    let (_, own) = customer.get("/tasks?external_task_ids=two").await;
    assert_eq!(own["data"][0]["id"], id(&two));
    let (_, none) = customer.get("/tasks?task_ids=unknown").await;
    assert_eq!((&none["code"], &none["data"]), (&json!(0), &json!([])));
    assert_eq!(customer.get("/tasks").await.0, 400);
    let (_, listed) =
        customer.post("/tasks", &json!({ "filters": [{ "key": "status", "values": ["succeeded"] }] })).await;
    assert_eq!(listed["data"]["count"], 2);
    let (_, foreign) = customer.get(&format!("/v1/videos/text2video/{}", id(&one))).await;
    assert_eq!((&foreign["code"], &foreign["data"]), (&json!(1201), &json!([])));
}

#[tokio::test]
async fn ark_lists_by_id_and_cancels_what_is_queued() {
    let simulator = start(Config::default());
    let customer = Customer::new(&simulator, Provider::Ark);
    let body = |script: &str| json!({ "model": "m", "content": [{ "type": "text", "text": script }], "return_last_frame": true });
    let path = "/contents/generations/tasks";
    let (_, done) = customer.post(path, &body("[simulate delay=0 size=5000]")).await;
    let (_, queued) = customer.post(path, &body("[simulate delay=60]")).await;
    let id = |answer: &Value| answer["id"].as_str().expect("an id").to_owned();
    let (_, list) =
        customer.get(&format!("{path}?filter.task_ids={}&filter.task_ids={}", id(&done), id(&queued))).await;
    assert_eq!(list["total"], 2);
    let frame = list["items"][0]["content"]["last_frame_url"].as_str().expect("a last frame");
    assert_eq!(
        customer.download(frame).await.1,
        simulator.content(&id(&done), "last_frame.png").expect("there").to_vec()
    );

    let cancel = customer.client.delete(customer.url(&format!("{path}/{}", id(&queued))));
    assert_eq!(customer.send(cancel.header(AUTHORIZATION, customer.authorization())).await, (200, json!({})));
    let (_, cancelled) = customer.get(&format!("{path}/{}", id(&queued))).await;
    assert_eq!(cancelled["status"], "cancelled");
    assert_eq!(customer.get(&format!("{path}/unknown")).await.0, 404);
}

#[tokio::test]
async fn vidu_refuses_a_field_it_does_not_know_and_cancels() {
    let simulator = start(Config::default());
    let customer = Customer::new(&simulator, Provider::Vidu);
    let (status, refused) =
        customer.post("/ent/v2/text2video", &json!({ "model": "m", "prompt": "x", "own_id": "1" })).await;
    assert_eq!((status, &refused["reason"]), (400, &json!("FieldUnwanted")));
    let (_, made) =
        customer.post("/ent/v2/text2video", &json!({ "model": "m", "prompt": "x [simulate delay=60]" })).await;
    let id = made["task_id"].as_str().expect("an id");
    assert_eq!(customer.post(&format!("/ent/v2/tasks/{id}/cancel"), &json!({})).await, (200, json!({})));
    let (_, cancelled) = customer.get(&format!("/ent/v2/tasks?task_ids={id}")).await;
    assert_eq!(cancelled["tasks"][0]["err_code"], "UserCancelled");
}

#[tokio::test]
async fn apimart_takes_an_idempotency_key_for_what_it_says() {
    for (idempotency, tasks) in [(simulator::Idempotency::Honoured, 1), (simulator::Idempotency::Ignored, 2)] {
        let simulator = start(Config { apimart_idempotency: idempotency, ..Config::default() });
        let customer = Customer::new(&simulator, Provider::ApiMart);
        for _ in 0..2 {
            let request = customer.client.post(customer.url("/videos/generations"));
            let request = request.header(AUTHORIZATION, customer.authorization()).header("Idempotency-Key", "own");
            customer.send(request.json(&json!({ "model": "m", "prompt": "x" }))).await;
        }
        assert_eq!(simulator.tasks().len(), tasks);
        assert_eq!(simulator.submission_count(Provider::ApiMart), 2);
        assert_eq!(simulator.submissions()[1].idempotency_key.as_deref(), Some("own"));
    }
}

/// A `MaxAPI` task with a script; the simplest provider stands for all where the provider does not matter.
async fn max_task(customer: &Customer<'_>, receiver: &Receiver, script: &str) -> String {
    let body = json!({ "model": "m", "input": { "prompt": format!("x [simulate {script}]") }, "callBackUrl": receiver.url("/hook") });
    let (_, answer) = customer.post("/api/v1/task/submit", &body).await;
    answer["data"]["taskId"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

#[tokio::test]
async fn scripts_bend_the_callbacks() {
    let simulator = start(Config { time_scale: 0.05, ..Config::default() });
    let customer = Customer::new(&simulator, Provider::MaxApi);
    let told = |callback: &Received| body_of(callback)["data"]["status"].clone();

    let receiver = Receiver::start().await;
    max_task(&customer, &receiver, "delay=0.1 deliveries=4").await;
    let copies = receiver.wait_for(4).await;
    assert!(copies.iter().all(|copy| copy.body == copies[0].body), "the same four times");

    let receiver = Receiver::start().await;
    max_task(&customer, &receiver, "delay=0.1 deliveries=2 spaced order=late_processing").await;
    let arrived = receiver.wait_for(3).await;
    assert_eq!(arrived.iter().map(told).collect::<Vec<_>>(), ["SUCCESS", "SUCCESS", "SUBMITTED"]);

    let receiver = Receiver::start().await;
    max_task(&customer, &receiver, "delay=0.1 outcome=fail then=succeed").await;
    let arrived = receiver.wait_for(2).await;
    assert_eq!(arrived.iter().map(told).collect::<Vec<_>>(), ["FAILURE", "SUCCESS"]);

    let receiver = Receiver::start().await;
    let id = max_task(&customer, &receiver, "delay=0.2 early").await;
    assert_eq!(receiver.received().len(), 1, "before the answer");

    // Delivered again on demand, and lost until then.
    assert!(simulator.deliver(&id).await.expect("there is one").accepted());
    assert_eq!(receiver.received().len(), 2);
    let id = max_task(&customer, &receiver, "delay=0 callback=lose").await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(receiver.received().len(), 2);
    let prepared = simulator.callback(&id).expect("could be sent");
    let delivery = simulator.deliver(&id).await.expect("is sent");
    assert_eq!((prepared.body, Some(200)), (delivery.body, delivery.status));
}

#[tokio::test]
async fn a_test_changes_a_task_midway() {
    let simulator = start(Config::default());
    let receiver = Receiver::start().await;
    let customer = Customer::new(&simulator, Provider::MaxApi);
    let id = max_task(&customer, &receiver, "delay=600").await;
    assert_eq!(simulator.task(&id).map(|task| matches!(task.phase, Phase::Open(_))), Some(true));
    assert!(simulator.script(&id, |script| {
        script.outcome = Outcome::Moderated;
        script.delay = Duration::ZERO;
    }));
    let arrived = receiver.wait_for(1).await;
    assert_eq!(body_of(&arrived[0])["data"]["failure_reason"], "CONTENT_MODERATION");
    assert!(!simulator.script("unknown", |_| ()));
    let task = simulator.wait_for(&id, SOON, |task| task.deliveries.iter().any(simulator::Delivery::accepted)).await;
    assert_eq!(task.expect("delivered").deliveries[0].attempt, 1);
}

#[tokio::test]
async fn repeats_follow_the_ladder_of_the_provider() {
    let simulator = start(Config { time_scale: 0.002, ..Config::default() });
    let apimart = Customer::new(&simulator, Provider::ApiMart);
    for (answers, attempts) in
        [(&[503, 500, 503, 503][..], 4), (&[503, 204], 2), (&[400], 1), (&[302, 200], 2), (&[200], 1)]
    {
        let receiver = Receiver::start().await;
        receiver.answer_with(answers);
        let body = json!({ "model": "m", "prompt": "[simulate delay=0]", "webhook": receiver.url("/hook") });
        apimart.post("/videos/generations", &body).await;
        receiver.wait_for(attempts).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(receiver.received().len(), attempts, "after {answers:?}");
    }
    // The others: how often in all when nobody ever accepts.
    for way in ways() {
        let attempts = match way.provider {
            Provider::Kling | Provider::MaxApi | Provider::MiniMax => 1,
            Provider::ApiMart | Provider::Ark | Provider::Vidu => 4,
            Provider::RelayDance if way.shape == Shape::D => 4,
            Provider::Kie | Provider::RelayDance => 3,
            Provider::Apimp => continue,
        };
        let simulator = start(Config {
            time_scale: 0.002,
            relaydance_shape: way.shape,
            minimax_challenge: Challenge::Skipped,
            ..Config::default()
        });
        let receiver = Receiver::start().await;
        receiver.answer_with(&[500; 40]);
        let customer = Customer::new(&simulator, way.provider);
        customer.post(way.submit, &filled(&way.body, &receiver.url("/hook"), "[simulate delay=0]")).await;
        let id = simulator.tasks().remove(0).id;
        let finals = |task: &TaskView| task.deliveries_of(DeliveryKind::Final).count();
        simulator.wait_for(&id, SOON, |task| finals(task) == attempts).await.expect("all attempts are made");
        tokio::time::sleep(Duration::from_millis(150)).await;
        let task = simulator.task(&id).expect("there");
        assert_eq!(finals(&task), attempts, "{} {}", way.provider, way.submit);
        let intermediate: Vec<_> = task.deliveries_of(DeliveryKind::Intermediate).collect();
        assert!(intermediate.iter().all(|delivery| delivery.attempt == 1), "intermediate pushes are not repeated");
    }
}

#[tokio::test]
async fn submissions_fail_in_every_way() {
    let simulator = start(Config { hang: Duration::from_mins(1), ..Config::default() });
    let receiver = Receiver::start().await;
    let customer = Customer::new(&simulator, Provider::Ark);
    let body = |script: &str| json!({ "model": "m", "content": [{ "type": "text", "text": format!("[simulate {script}]") }], "callback_url": receiver.url("/hook") });
    let path = "/contents/generations/tasks";
    for (script, status, code) in [
        ("submit=refuse", 400, "InvalidParameter"),
        ("submit=moderate", 400, "InputTextSensitiveContentDetected"),
        ("submit=balance", 403, "AccountOverdueError"),
        ("submit=busy", 429, "RateLimitExceeded.EndpointRPMExceeded"),
        ("videos=2", 400, "InvalidParameter"),
    ] {
        let (got, answer) = customer.post(path, &body(script)).await;
        assert_eq!((got, answer["error"]["code"].as_str()), (status, Some(code)), "{script}");
    }
    assert!(simulator.tasks().is_empty(), "refused");

    assert_eq!(customer.post(path, &body("submit=error500 delay=0")).await.0, 500);
    assert_eq!(simulator.tasks().len(), 1, "made all the same");
    let request = customer.client.post(customer.url(path)).header(AUTHORIZATION, customer.authorization());
    let hanging = request.json(&body("submit=timeout delay=0")).timeout(Duration::from_millis(300)).send().await;
    assert!(hanging.expect_err("no answer").is_timeout());
    assert_eq!(simulator.tasks().len(), 2, "made all the same");
    receiver.wait_for(2).await;
}

#[tokio::test]
async fn calls_meet_the_trouble_that_a_test_orders() {
    let simulator = start(Config::default());
    for way in ways() {
        let customer = Customer::new(&simulator, way.provider);
        let path = way.status.replace("{id}", "1");
        simulator.trouble(way.provider, Call::Status, Trouble::RateLimited { retry_after_seconds: 7 }, 2);
        for _ in 0..2 {
            let request = customer.client.get(customer.url(&path)).header(AUTHORIZATION, customer.authorization());
            let response = request.send().await.expect("an answer");
            assert_eq!(response.status(), 429, "{path}");
            assert_eq!(response.headers()["retry-after"], "7");
        }
        assert_ne!(customer.get(&path).await.0, 429, "over after two");
        simulator.trouble(way.provider, Call::Status, Trouble::Status(503), 1);
        assert_eq!(customer.get(&path).await.0, 503);
    }
}

#[tokio::test]
async fn nothing_is_left_when_it_is_dropped() {
    let simulator = start(Config::default());
    let address = simulator.address();
    assert!(std::net::TcpStream::connect(address).is_ok());
    drop(simulator);
    let mut free = false;
    for _ in 0..100 {
        free = std::net::TcpListener::bind(address).is_ok();
        if free {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(free, "the port is free again");
}
