//! What holds for every provider.

use std::time::Duration;

use reqwest::header::AUTHORIZATION;
use serde_json::{Value, json};
use simulator::{Call, CallFault, Challenge, Config, DeliveryKind, Provider, TaskView};

use crate::{
    TIMEOUT,
    customer::{Customer, body_of, start},
    receiver::Receiver,
};

/// Where nobody listens.
const NOWHERE: &str = "http://127.0.0.1:1/";

#[tokio::test]
async fn every_api_sends_callbacks_reports_its_status_and_serves_the_file() {
    for case in Provider::ALL.into_iter().flat_map(Provider::examples) {
        let name = format!("{} {}", case.provider, case.submit);
        let simulator = start(Config { relaydance_shape: case.shape, ..Config::default() });
        let receiver = Receiver::start().await;
        let customer = Customer::new(&simulator, case.provider);

        let body = case.body_with(&receiver.url("/hook"), "a cat [simulate delay=0.3 size=20000]");
        let (status, response) = customer.post(&case.path(&receiver.url("/hook")), &body).await;
        assert!(matches!(status, 200..=202), "{name}: {response}");
        let id = response.pointer(case.id).and_then(Value::as_str).unwrap_or_else(|| panic!("{name}: {response}"));

        let (_, open) = customer.get(&case.status.replace("{id}", id)).await;
        assert!(!case.is_success(&open), "{name}: not finished yet");
        assert_eq!(open.pointer(case.link).and_then(Value::as_str).unwrap_or_default(), "", "{name}: no link yet");

        let arrived = receiver.wait_for(case.callbacks).await;
        assert_eq!(arrived.len(), case.callbacks, "{name}: {arrived:?}");
        if let Some(last) = arrived.last() {
            let callback = body_of(last);
            assert_eq!(callback.pointer(case.callback_status.0), Some(&case.callback_status.1), "{name}: {callback}");
            if case.callback_id.is_empty() {
                assert!(!callback.to_string().contains(id), "{name}: the upstream has its own id");
            } else {
                assert_eq!(callback.pointer(case.callback_id), Some(&json!(id)), "{name}: {callback}");
            }
            assert_eq!(last.path, case.target, "{name}");
        }
        simulator.wait_for(id, TIMEOUT, |task| task.phase.is_final()).await.expect("it ends");

        let (status, done) = customer.get(&case.status.replace("{id}", id)).await;
        assert_eq!(status, 200, "{name}");
        assert!(case.is_success(&done), "{name}: {done}");
        let link = done.pointer(case.link).and_then(Value::as_str).unwrap_or_else(|| panic!("{name}: {done}"));
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
async fn every_provider_rejects_a_wrong_key_and_an_invalid_script() {
    for case in Provider::ALL.into_iter().flat_map(Provider::examples) {
        let name = format!("{} {}", case.provider, case.submit);
        let simulator = start(Config::default());
        let customer = Customer::new(&simulator, case.provider);
        let body = case.body_with(NOWHERE, "[simulate colour=red]");
        let (_, refused) = customer.post(&case.path(NOWHERE), &body).await;
        assert!(refused.to_string().contains("unknown key"), "{name}: {refused}");

        let wrong =
            customer.client.post(customer.url(&case.path(NOWHERE))).header(AUTHORIZATION, "Bearer wrong").json(&body);
        let (status, refused) = customer.send(wrong).await;
        assert_eq!(status, 401, "{name}: {refused}");
        let none = customer.client.get(customer.url(&case.status.replace("{id}", "1")));
        assert_eq!(customer.send(none).await.0, case.anonymous, "{name}");

        assert_eq!(simulator.submission_count(case.provider), 2, "{name}: refused submissions count");
        assert!(simulator.tasks().is_empty(), "{name}");
        assert_eq!(simulator.calls(case.provider, Call::Submit), 2, "{name}");
        assert_eq!(simulator.calls(case.provider, Call::Status), 1, "{name}");
    }
}

#[tokio::test]
async fn every_provider_reports_every_outcome() {
    let outcomes = ["fail", "moderated", "timeout", "cancelled", "expired"];
    for case in Provider::ALL.into_iter().flat_map(Provider::examples) {
        let simulator = start(Config { relaydance_shape: case.shape, ..Config::default() });
        let customer = Customer::new(&simulator, case.provider);
        for outcome in outcomes {
            let name = format!("{} {} {outcome}", case.provider, case.submit);
            let mut body = case.body_with(NOWHERE, &format!("[simulate outcome={outcome} delay=0 callback=lose]"));
            if let Some(own) = body.pointer_mut("/options/external_task_id") {
                *own = json!(name);
            }
            let (_, response) = customer.post(&case.path(NOWHERE), &body).await;
            let id = response.pointer(case.id).and_then(Value::as_str).unwrap_or_else(|| panic!("{name}: {response}"));
            let (status, done) = customer.get(&case.status.replace("{id}", id)).await;
            assert_eq!(status != 200, case.http_errors.contains(&outcome), "{name}: {status}");
            assert!(!case.is_success(&done), "{name}: {done}");
            let words = done.to_string().to_lowercase();
            let known = [
                "fail",
                "timeout",
                "cancelled",
                "canceled",
                "aborted",
                "expired",
                "rejected",
                "\"successflag\":2",
                "\"successflag\":3",
                "\"raimediafilteredcount\":1",
            ];
            assert!(known.iter().any(|word| words.contains(word)), "{name}: {done}");
        }
    }
}

#[tokio::test]
async fn retries_follow_the_providers_policy() {
    let simulator = start(Config { time_scale: 0.002, ..Config::default() });
    let apimart = Customer::new(&simulator, Provider::ApiMart);
    for (statuses, attempts) in
        [(&[503, 500, 503, 503][..], 4), (&[503, 204], 2), (&[400], 1), (&[302, 200], 2), (&[200], 1)]
    {
        let receiver = Receiver::start().await;
        receiver.respond_with(statuses);
        let body = json!({ "model": "m", "prompt": "[simulate delay=0]", "webhook": receiver.url("/hook") });
        apimart.post("/videos/generations", &body).await;
        receiver.wait_for(attempts).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(receiver.received().len(), attempts, "after {statuses:?}");
    }
    // The others: the number of attempts if the receiver never accepts.
    for case in Provider::ALL.into_iter().flat_map(Provider::examples) {
        let simulator = start(Config {
            time_scale: 0.002,
            relaydance_shape: case.shape,
            minimax_challenge: Challenge::Skipped,
            ..Config::default()
        });
        let receiver = Receiver::start().await;
        receiver.respond_with(&[500; 40]);
        let customer = Customer::new(&simulator, case.provider);
        customer
            .post(&case.path(&receiver.url("/hook")), &case.body_with(&receiver.url("/hook"), "[simulate delay=0]"))
            .await;
        let id = simulator.tasks().remove(0).id;
        let finals = |task: &TaskView| task.deliveries_of(DeliveryKind::Final).count();
        simulator.wait_for(&id, TIMEOUT, |task| finals(task) == case.attempts).await.expect("all attempts");
        tokio::time::sleep(Duration::from_millis(150)).await;
        let task = simulator.task(&id).expect("there");
        assert_eq!(finals(&task), case.attempts, "{} {}", case.provider, case.submit);
        let intermediate: Vec<_> = task.deliveries_of(DeliveryKind::Intermediate).collect();
        assert!(intermediate.iter().all(|delivery| delivery.attempt == 1), "intermediate callbacks are not retried");
    }
}

#[tokio::test]
async fn injected_faults_apply_to_the_next_calls() {
    let simulator = start(Config::default());
    for case in Provider::ALL.into_iter().flat_map(Provider::examples) {
        let customer = Customer::new(&simulator, case.provider);
        let path = case.status.replace("{id}", "1");
        simulator.inject_fault(case.provider, Call::Status, CallFault::RateLimited { retry_after_seconds: 7 }, 2);
        for _ in 0..2 {
            let response =
                customer.authorized(customer.client.get(customer.url(&path))).send().await.expect("an response");
            assert_eq!(response.status(), 429, "{path}");
            assert_eq!(response.headers()["retry-after"], "7");
        }
        assert_ne!(customer.get(&path).await.0, 429, "only two calls");
        simulator.inject_fault(case.provider, Call::Status, CallFault::Status(503), 1);
        assert_eq!(customer.get(&path).await.0, 503);
    }
}
