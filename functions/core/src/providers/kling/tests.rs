use super::*;

const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);

#[test]
fn every_row_is_reachable() {
    FAILURES.assert_every_row_is_reachable();
}

/// The error code page: HTTP status, codes, reason, retry.
#[test]
fn refusals_are_classified_by_their_code() {
    for (status, codes, reason, retryable) in [
        (401, vec![1000, 1001, 1002], Reason::Unknown, false),
        (401, vec![1003, 1004], Reason::Unknown, true),
        (429, vec![1100, 1101, 1102], Reason::InsufficientCredits, false),
        (403, vec![1103], Reason::Unknown, false),
        (400, vec![1200, 1201], Reason::InvalidParameters, false),
        (404, vec![1202, 1203], Reason::InvalidParameters, false),
        (400, vec![1300, 1301], Reason::ContentModeration, false),
        (429, vec![1302, 1303], Reason::RateLimited, true),
        (429, vec![1304], Reason::Unknown, false),
        (500, vec![5000], Reason::ProviderError, true),
        (503, vec![5001], Reason::ProviderError, true),
    ] {
        for code in codes {
            let body = json!({"code": code, "message": "words", "request_id": "r"}).to_string();
            for status in [status, 200] {
                let response = ProviderResponse::new(status, body.as_bytes());
                let expected = Failure::new(reason, retryable).code(code.to_string()).message("words");
                assert_eq!(refusal(&response, &object(&response.body).expect("an object")), Some(expected));
            }
        }
    }
}

#[test]
fn a_time_out_may_have_created_a_task() {
    let response = ProviderResponse::new(504, br#"{"code":5002,"message":"timeout"}"#);
    assert!(matches!(Kling.read_submission(&response), SubmissionResult::Unclear(_)));
}

#[test]
fn a_task_that_created_an_element_is_complete_without_a_file() {
    let task = json!({"id": "1", "status": "succeeded", "outputs": [{"type": "element", "id": "2"}]});
    let success = TaskStatus::succeeded(vec![]);
    assert_eq!(callback(&task, NOW), responses::complete_callback("1", success.clone()));
    let body = json!({"code": 0, "data": [task]}).to_string();
    let response = ProviderResponse::new(200, body.as_bytes());
    assert_eq!(Kling.read_status(&response, "1", NOW), StatusResult::Task(success));
}

#[test]
fn failed_tasks_are_classified_by_their_message() {
    for (message, reason) in [
        ("Failure to pass the risk control system", Reason::ContentModeration),
        ("The resolution or aspect ratio of the input image is invalid. Try another", Reason::InvalidParameters),
        ("something else", Reason::ProviderError),
        ("", Reason::ProviderError),
    ] {
        let failure = FAILURES.of_task(None, Some(message.to_owned()));
        assert_eq!((failure.reason, failure.retryable), (reason, false), "{message}");
    }
}

#[test]
fn the_older_key_pair_signs_a_jwt() {
    let token = jwt(&Secret::new("ak-test"), &Secret::new("sk-test"), NOW);
    let expected = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJhay10ZXN0IiwiZXhwIjoxNzY3MjI3NDAwLCJuYmYiOjE3NjcyMjU1OTV9.dDxpWSVSj5kNmv3WvJxz25pk9735kQ4OjYPb-MoIoH0";
    assert_eq!(token, expected);
}

/// An interrupted submission is looked up under what it carried, and other tasks may come with it.
#[test]
fn an_id_of_the_callers_own_is_what_is_looked_up() {
    let (new, legacy) = (Some("/text-to-video/kling-2.6"), Some("/v1/videos/text2video"));
    let body = json!({"external_task_id": "top", "options": {"external_task_id": "inner"}});
    assert_eq!(Kling.marker_in(&body, new).as_deref(), Some("inner"));
    assert_eq!(Kling.marker_in(&body, legacy).as_deref(), Some("top"));
    assert_eq!(Kling.marker_in(&json!({"options": {}}), new), None);
    let task = |id: &str, own: &str| json!({"id": id, "external_id": own, "status": "processing"});
    let list = json!({"code": 0, "data": [task("1", "another"), task("2", "inner")]});
    let found = Kling.read_lookup(&ProviderResponse::new(200, list.to_string()), "inner", NOW);
    assert_eq!(found, LookupResult::Found { provider_task_id: "2".to_owned() });
}

#[test]
fn the_older_key_pair_is_valid_for_the_legacy_generation_only() {
    let settings = ProviderSettings {
        access_key: Some(Secret::new("ak-test")),
        secret_key: Some(Secret::new("sk-test")),
        ..ProviderSettings::default()
    };
    let submit = |endpoint| {
        let submission =
            Submission { body: &json!({}), endpoint: Some(endpoint), callback_url: "https://hub", marker: "m" };
        Kling.submission(&submission, &settings, NOW)
    };
    let request = submit("/v1/videos/text2video").expect("a valid submission");
    assert!(request.headers[0].1.expose().starts_with("Bearer eyJ"));
    assert_eq!(submit("/text-to-video/kling-2.6"), Err(InvalidSubmission::NoApiKey(NAME)));
    let tasks = [
        PolledTask { provider_task_id: "1", endpoint: None },
        PolledTask { provider_task_id: "2", endpoint: Some("/v1/videos/text2video") },
    ];
    let polled: Vec<_> =
        Kling.status_requests(&tasks, &settings, NOW).into_iter().map(|request| request.tasks).collect();
    assert_eq!(polled, [vec![1]]);
}

#[test]
fn audio_and_images_of_either_generation_are_found() {
    let result = json!({
        "images": [{"url": "", "watermark_url": "https://a.test/marked.png"}],
        "series_images": [{"url": "https://a.test/1.png", "watermark_url": "https://a.test/1-marked.png"}],
        "audios": [{"id": "1", "url_mp3": "https://a.test/s.mp3", "url_wav": "https://a.test/s.wav"}],
    });
    let task = json!({"task_id": "1", "task_status": "succeed", "task_result": result});
    let found: Vec<_> = links(&task, NOW).into_artifacts();
    let found: Vec<_> = found
        .iter()
        .map(|artifact| match &artifact.source {
            Source::Url(url) | Source::Authorized(url) => (artifact.kind, url.expose()),
            Source::FileId(id) => (artifact.kind, id.as_str()),
        })
        .collect();
    assert_eq!(
        found,
        [
            (Kind::Image, "https://a.test/marked.png"),
            (Kind::Image, "https://a.test/1.png"),
            (Kind::Audio, "https://a.test/s.mp3"),
            (Kind::Audio, "https://a.test/s.wav"),
        ]
    );
}

/// The legacy generation has one status call for each action, and its callbacks do not say which.
#[test]
fn only_a_callback_of_the_new_generation_tells_its_status_call() {
    let told = |body: &Value| Kling.endpoint_of_callback(body.to_string().as_bytes());
    assert_eq!(told(&json!({"id": "1", "status": "succeeded"})), Some(TASKS));
    assert_eq!(told(&json!({"code": 0, "data": {"id": "1", "status": "processing"}})), Some(TASKS));
    assert_eq!(told(&json!({"task_id": "1", "task_status": "succeed"})), None);
    assert_eq!(told(&json!({"message": "no task"})), None);
    let guesses = |endpoint| Kling.guesses_status_call(&PolledTask { provider_task_id: "1", endpoint });
    assert_eq!([None, Some(TASKS), Some("/v1/videos/lip-sync")].map(guesses), [true, false, false]);
}
