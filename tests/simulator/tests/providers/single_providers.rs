//! What is particular to a provider.

use std::time::Duration;

use reqwest::header::AUTHORIZATION;
use serde_json::{Value, json};
use simulator::{Challenge, Config, DeliveryKind, Provider, Signing};

use crate::{
    customer::{Customer, body_of, hmac, start},
    receiver::Receiver,
};

#[tokio::test]
async fn minimax_of_the_first_generation_returns_a_file_id_that_resolves_to_a_link() {
    let simulator = start(Config::default());
    let receiver = Receiver::start().await;
    let customer = Customer::new(&simulator, Provider::MiniMax);
    let body = json!({ "model": "MiniMax-Hailuo-2.3", "prompt": "x [simulate delay=0.2 size=9000 link=dead]", "callback_url": receiver.url("/hook") });
    let (_, response) = customer.post("/v1/video_generation", &body).await;
    assert_eq!(response["base_resp"]["status_code"], 0);
    let id = response["task_id"].as_str().expect("an id");

    let arrived = receiver.wait_for(3).await;
    assert!(body_of(&arrived[0])["challenge"].is_string(), "the challenge comes first");
    assert_eq!(body_of(&arrived[1])["status"], "processing");
    let callback = body_of(&arrived[2]);
    assert_eq!(callback["status"], "success");
    assert!(!callback.to_string().contains("http"), "no link in the callback: {callback}");

    let (_, done) = customer.get(&format!("/v1/query/video_generation?task_id={id}")).await;
    assert_eq!((&done["status"], &done["file_id"]), (&json!("Success"), &callback["file_id"]));
    let retrieve = format!("/v1/files/retrieve?file_id={}", callback["file_id"].as_str().expect("an id"));
    let mut links = Vec::new();
    for expected in [403, 200] {
        let (_, file) = customer.get(&retrieve).await;
        assert_eq!(file["file"]["bytes"], 0);
        let link = file["file"]["download_url"].as_str().expect("a link").to_owned();
        assert_eq!(customer.download(&link).await.0, expected, "only the first link is dead");
        links.push(link);
    }
    assert_ne!(links[0], links[1]);
    assert_eq!(customer.download(&links[1]).await.1, simulator.file(id));

    let (status, unknown) = customer.get("/v1/query/video_generation?task_id=1").await;
    assert_eq!((status, &unknown["base_resp"]["status_code"]), (200, &json!(2013)));
}

#[tokio::test]
async fn minimax_sends_no_callbacks_to_a_receiver_that_fails_the_challenge() {
    for challenge in [Challenge::Silent, Challenge::Required, Challenge::Skipped] {
        let simulator = start(Config { minimax_challenge: challenge, ..Config::default() });
        let receiver = Receiver::start().await;
        receiver.respond_with(&[404]);
        let customer = Customer::new(&simulator, Provider::MiniMax);
        let body = json!({ "model": "m", "prompt": "[simulate delay=0.1]", "callback_url": receiver.url("/hook") });
        let (_, response) = customer.post("/v1/video_generation", &body).await;
        let id = response["task_id"].as_str().expect("an id or an empty one").to_owned();
        match challenge {
            Challenge::Required => {
                assert_eq!(response["base_resp"]["status_code"], 2013);
                assert!(simulator.tasks().is_empty());
            }
            Challenge::Silent => {
                tokio::time::sleep(Duration::from_millis(400)).await;
                let task = simulator.task(&id).expect("created anyway");
                assert_eq!(task.deliveries.len(), 1, "the challenge, and nothing more");
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
async fn kie_market_has_its_links_in_a_json_string_and_renews_them_on_request() {
    let simulator = start(Config::default());
    let receiver = Receiver::start().await;
    let customer = Customer::new(&simulator, Provider::Kie);
    let body = json!({ "model": "grok-imagine", "input": { "prompt": "[simulate delay=0.1 size=9000 link=dead]" }, "callBackUrl": receiver.url("/hook") });
    let (_, response) = customer.post("/api/v1/jobs/createTask", &body).await;
    let id = response["data"]["taskId"].as_str().expect("an id");
    let callback = body_of(&receiver.wait_for(1).await[0]);
    assert_eq!((&callback["code"], &callback["data"]["state"]), (&json!(200), &json!("success")));
    let result = callback["data"]["resultJson"].as_str().expect("a string");
    let result: Value = serde_json::from_str(result).expect("JSON in it");
    let dead = result["resultUrls"][0].as_str().expect("a link").to_owned();
    assert_eq!(customer.download(&dead).await.0, 403);
    let (_, again) = customer.get(&format!("/api/v1/jobs/recordInfo?taskId={id}")).await;
    assert_eq!(again["data"]["resultJson"], callback["data"]["resultJson"], "a status call does not renew links");

    let (_, fresh) = customer.post("/api/v1/common/download-url", &json!({ "url": dead })).await;
    let link = fresh["data"].as_str().expect("a link").to_owned();
    assert_eq!(customer.download(&link).await, (200, simulator.file(id)));
    let (_, foreign) = customer.post("/api/v1/common/download-url", &json!({ "url": "https://example.com/a" })).await;
    assert_eq!(foreign["code"], 422);

    let library = reqwest::Client::new().get(&link).header("user-agent", "python-requests/2.31").send().await;
    assert_eq!(library.expect("an response").status(), 403, "default user agents are rejected");
}

#[tokio::test]
async fn callbacks_have_valid_signatures() {
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

    // The local AWS emulator adds a path prefix that the function does not see.
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
    let (_, response) = customer.post("/api/v1/veo/generate", &body).await;
    let callback = receiver.wait_for(6).await.remove(5);
    let signed =
        format!("{}.{}", response["data"]["taskId"].as_str().expect("an id"), callback.header("x-webhook-timestamp"));
    assert_eq!(callback.header("x-webhook-signature"), hmac(b"kie-webhook-hmac-key", signed.as_bytes()));
}

#[tokio::test]
async fn callbacks_are_unsigned_when_signing_is_off() {
    let simulator = start(Config { signing: Signing::Unsigned, ..Config::default() });
    let receiver = Receiver::start().await;
    let customer = Customer::new(&simulator, Provider::Kling);
    let body = json!({ "prompt": "[simulate delay=0]", "callback_url": receiver.url("/hook") });
    customer.post("/v1/videos/text2video", &body).await;
    assert_eq!(receiver.wait_for(1).await[0].header("webhook-signature"), "");
}

#[tokio::test]
async fn kling_accepts_a_jwt_on_legacy_paths_only() {
    let pair = simulator::AccessKey { access_key: "ak-test".to_owned(), secret_key: "sk-test".to_owned() };
    let simulator = start(Config { kling_access_key: Some(pair), ..Config::default() });
    let customer = Customer::new(&simulator, Provider::Kling);
    // Correctly signed, and expired in January 2026.
    let token = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJhay10ZXN0IiwiZXhwIjoxNzY3MjI3NDAwLCJuYmYiOjE3NjcyMjU1OTV9.dDxpWSVSj5kNmv3WvJxz25pk9735kQ4OjYPb-MoIoH0";
    for (path, code) in [("/v1/videos/text2video", 1004), ("/text-to-video/kling-2.6", 1002)] {
        let request = customer.client.post(customer.url(path)).header(AUTHORIZATION, format!("Bearer {token}"));
        let (status, refused) = customer.send(request.json(&json!({ "prompt": "x" }))).await;
        assert_eq!((status, &refused["code"]), (401, &json!(code)), "{path}");
    }
}

#[tokio::test]
async fn kling_returns_several_tasks_at_once_and_rejects_duplicate_external_ids() {
    let simulator = start(Config::default());
    let customer = Customer::new(&simulator, Provider::Kling);
    let body = |own: &str| json!({ "prompt": "x [simulate delay=0]", "options": { "external_task_id": own } });
    let (_, one) = customer.post("/text-to-video/kling-2.6", &body("one")).await;
    let (_, two) = customer.post("/text-to-video/kling-2.6", &body("two")).await;
    let (status, again) = customer.post("/text-to-video/kling-2.6", &body("two")).await;
    assert_eq!((status, &again["code"]), (400, &json!(1201)), "unique in an account");

    let id = |response: &Value| response["data"]["id"].as_str().expect("an id").to_owned();
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
async fn ark_lists_tasks_by_id_and_cancels_queued_ones() {
    let simulator = start(Config::default());
    let customer = Customer::new(&simulator, Provider::Ark);
    let body = |script: &str| json!({ "model": "m", "content": [{ "type": "text", "text": script }], "return_last_frame": true });
    let path = "/contents/generations/tasks";
    let (_, done) = customer.post(path, &body("[simulate delay=0 size=5000]")).await;
    let (_, queued) = customer.post(path, &body("[simulate delay=60]")).await;
    let id = |response: &Value| response["id"].as_str().expect("an id").to_owned();
    let (_, list) =
        customer.get(&format!("{path}?filter.task_ids={}&filter.task_ids={}", id(&done), id(&queued))).await;
    assert_eq!(list["total"], 2);
    let frame = list["items"][0]["content"]["last_frame_url"].as_str().expect("a last frame");
    assert_eq!(
        customer.download(frame).await.1,
        simulator.content(&id(&done), "last_frame.png").expect("there").to_vec()
    );

    let cancel = customer.client.delete(customer.url(&format!("{path}/{}", id(&queued))));
    assert_eq!(customer.send(customer.authorized(cancel)).await, (200, json!({})));
    let (_, cancelled) = customer.get(&format!("{path}/{}", id(&queued))).await;
    assert_eq!(cancelled["status"], "cancelled");
    assert_eq!(customer.get(&format!("{path}/unknown")).await.0, 404);
}

/// The call that cancels an open task deletes one that has ended.
#[tokio::test]
async fn runway_forgets_what_it_cancels_and_wants_its_version() {
    let simulator = start(Config::default());
    let customer = Customer::new(&simulator, Provider::Runway);
    let body = |script: &str| json!({ "model": "gen4.5", "promptText": script });
    for script in ["[simulate delay=60]", "[simulate delay=0 size=5000]"] {
        let (_, made) = customer.post("/v1/text_to_video", &body(script)).await;
        let path = format!("/v1/tasks/{}", made["id"].as_str().expect("an id"));
        let (_, task) = customer.get(&path).await;
        let delete = || customer.authorized(customer.client.delete(customer.url(&path))).send();
        assert_eq!(delete().await.expect("a response").status(), 204, "{script}");
        assert_eq!(customer.get(&path).await.0, 404, "{script}");
        if let Some(link) = task["output"][0].as_str() {
            assert_eq!(customer.download(link).await.0, 403, "its file is deleted as well");
        }
    }
    let key = simulator.config().account(Provider::Runway).api_key.clone();
    let unversioned = customer.client.get(customer.url("/v1/tasks/1")).bearer_auth(key);
    assert_eq!(customer.send(unversioned).await.0, 400);
}

#[tokio::test]
async fn vidu_rejects_unknown_fields_and_cancels_tasks() {
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
async fn apimart_honours_or_ignores_an_idempotency_key() {
    for (idempotency, tasks) in [(simulator::Idempotency::Honoured, 1), (simulator::Idempotency::Ignored, 2)] {
        let simulator = start(Config { apimart_idempotency: idempotency, ..Config::default() });
        let customer = Customer::new(&simulator, Provider::ApiMart);
        for _ in 0..2 {
            let request = customer.client.post(customer.url("/videos/generations"));
            let request = customer.authorized(request).header("Idempotency-Key", "own");
            customer.send(request.json(&json!({ "model": "m", "prompt": "x" }))).await;
        }
        assert_eq!(simulator.tasks().len(), tasks);
        assert_eq!(simulator.submission_count(Provider::ApiMart), 2);
        assert_eq!(simulator.submissions()[1].idempotency_key.as_deref(), Some("own"));
    }
}

#[tokio::test]
async fn openrouter_gives_files_out_for_the_key_and_redirects_to_them() {
    let simulator = start(Config { file_origin: Some("http://files.example".to_owned()), ..Config::default() });
    let customer = Customer::new(&simulator, Provider::OpenRouter);
    let body = |script: &str| json!({ "model": "google/veo-3.1", "prompt": format!("x [simulate {script}]") });
    let (status, made) = customer.post("/videos", &body("delay=0 size=5000 videos=2")).await;
    let path = format!("/videos/{}", made["id"].as_str().expect("an id"));
    let polling_url = json!(format!("/api/v1{path}"));
    assert_eq!((status, &made["polling_url"], &made["status"]), (202, &polling_url, &json!("pending")));
    let (_, done) = customer.get(&path).await;
    let links: Vec<&str> = done["unsigned_urls"].as_array().expect("links").iter().filter_map(Value::as_str).collect();
    assert_eq!(links, [0, 1].map(|index| customer.url(&format!("{path}/content?index={index}"))));
    assert_eq!(done["usage"], json!({ "cost": 3.0, "is_byok": false }));

    let careful = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().expect("a client");
    for refused in [careful.get(links[0]), careful.get(links[0]).bearer_auth("wrong")] {
        assert_eq!(customer.send(refused).await.0, 401);
    }
    let mut files = Vec::new();
    for link in links {
        let redirect = customer.authorized(careful.get(link)).send().await.expect("a response");
        assert_eq!(redirect.status(), 302);
        files.push(redirect.headers()["location"].to_str().expect("a link").to_owned());
    }
    assert!(files.iter().all(|file| file.starts_with("http://files.example/files/openrouter/")), "{files:?}");
    assert_ne!(files[0], files[1]);

    assert_eq!(customer.get(&format!("{path}/content?index=2")).await.0, 400);
    let (_, open) = customer.post("/videos", &body("delay=60")).await;
    let open = open["id"].as_str().expect("an id");
    assert_eq!(customer.get(&format!("/videos/{open}/content?index=0")).await.0, 400, "not finished");
    assert_eq!(customer.get("/videos/unknown/content?index=0").await.0, 404);
}

#[tokio::test]
async fn wan_wants_its_header_knows_no_strangers_and_cancels_what_is_pending() {
    let simulator = start(Config::default());
    let customer = Customer::new(&simulator, Provider::Wan);
    let path = "/api/v1/services/aigc/video-generation/video-synthesis";
    let body = json!({ "model": "wan2.7-t2v", "input": { "prompt": "x [simulate delay=60]" } });
    let key = simulator.config().account(Provider::Wan).api_key.clone();
    let waiting = customer.client.post(customer.url(path)).bearer_auth(key).json(&body);
    let (status, refused) = customer.send(waiting).await;
    assert_eq!((status, &refused["code"]), (403, &json!("AccessDenied")));
    let (_, unknown) = customer.get("/api/v1/tasks/unknown").await;
    assert_eq!(unknown["output"], json!({ "task_id": "unknown", "task_status": "UNKNOWN" }));

    let (_, made) = customer.post(path, &body).await;
    let id = made["output"]["task_id"].as_str().expect("an id").to_owned();
    for (status, code) in [(200, Value::Null), (400, json!("UnsupportedOperation"))] {
        let (found, response) = customer.post(&format!("/api/v1/tasks/{id}/cancel"), &json!({})).await;
        assert_eq!((found, &response["code"]), (status, &code));
    }
    let (_, cancelled) = customer.get(&format!("/api/v1/tasks/{id}")).await;
    assert_eq!(cancelled["output"]["task_status"], "CANCELED");
}

#[tokio::test]
async fn veo_gives_files_out_for_the_key_and_redirects_to_them() {
    let simulator = start(Config::default());
    let customer = Customer::new(&simulator, Provider::Veo);
    let body = json!({ "instances": [{ "prompt": "x [simulate delay=0 size=5000]" }] });
    let (_, made) = customer.post("/v1beta/models/veo-2.0-generate-001:predictLongRunning", &body).await;
    let name = made["name"].as_str().expect("a name");
    assert!(name.starts_with("models/veo-2.0-generate-001/operations/"), "{name}");
    let (_, done) = customer.get(&format!("/v1beta/{name}")).await;
    let link = &done["response"]["generateVideoResponse"]["generatedSamples"][0]["video"]["uri"];
    let link = link.as_str().unwrap_or_else(|| panic!("{done}"));

    let (status, refused) = customer.send(customer.client.get(link)).await;
    assert_eq!((status, &refused["error"]["status"]), (403, &json!("PERMISSION_DENIED")));
    let (status, refused) = customer.send(customer.client.get(link).header("x-goog-api-key", "wrong")).await;
    assert_eq!((status, &refused["error"]["details"][0]["reason"]), (400, &json!("API_KEY_INVALID")));

    let careful = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().expect("a client");
    let redirect = customer.authorized(careful.get(link)).send().await.expect("a response");
    assert_eq!(redirect.status(), 302);
    let file = redirect.headers()["location"].to_str().expect("a link");
    assert!(!file.starts_with(&simulator.base_url(Provider::Veo)), "{file}");
    let bytes = careful.get(file).send().await.expect("a response").bytes().await.expect("a body");
    assert_eq!(bytes, simulator.file(name), "without the key");
    assert_eq!(customer.get("/v1beta/files/1:download?alt=media").await.0, 403);

    let keys = customer.client.get(simulator.key_set_url(Provider::Veo).expect("it publishes keys"));
    assert_eq!(customer.send(keys).await.1["keys"].as_array().map(Vec::len), Some(2));
}
