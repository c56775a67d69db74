//! Every API of every provider, as a table.

use serde_json::{Value, json};
use simulator::{Provider, Shape};

/// An API that submits tasks. `{url}` in the body or the path stands for the callback URL, `{script}` for the prompt with the script, and
/// `{id}` in a path for the task's id. Fields of bodies are given as JSON pointers.
pub(crate) struct ApiCase {
    pub(crate) provider: Provider,
    /// The header with the API key, and what precedes the key.
    pub(crate) credential: (&'static str, &'static str),
    /// Another header of every call.
    pub(crate) header: Option<(&'static str, &'static str)>,
    pub(crate) submit: &'static str,
    pub(crate) body: Value,
    /// The id in the submission response.
    pub(crate) id: &'static str,
    pub(crate) status: &'static str,
    /// The HTTP status of a call without credentials.
    pub(crate) anonymous: u16,
    /// The status word in a status response, and its value for a success; empty for any value.
    pub(crate) final_status: (&'static str, &'static str),
    /// The outcomes that the status call reports as an HTTP error.
    pub(crate) http_errors: &'static [&'static str],
    /// The link in a status response.
    pub(crate) link: &'static str,
    /// The status word in a callback, and its value for a success.
    pub(crate) callback_status: (&'static str, Value),
    /// The id in a callback; empty if callbacks have the upstream's id.
    pub(crate) callback_id: &'static str,
    /// The number of callbacks, including the final one. 0 if the provider can only be polled.
    pub(crate) callbacks: usize,
    /// The path of callbacks for the callback URL `/hook`.
    pub(crate) target: &'static str,
    /// The number of attempts if the receiver never accepts.
    pub(crate) attempts: usize,
    pub(crate) shape: Shape,
}

impl ApiCase {
    /// The path of a submission.
    pub(crate) fn path(&self, callback_url: &str) -> String {
        self.submit.replace("{url}", callback_url)
    }

    /// Whether a status response reports a success.
    pub(crate) fn is_success(&self, body: &Value) -> bool {
        let (field, value) = self.final_status;
        body.pointer(field).is_some_and(|found| value.is_empty() || *found == json!(value))
    }
}

fn api_case(provider: Provider) -> ApiCase {
    ApiCase {
        provider,
        credential: ("authorization", "Bearer "),
        header: None,
        submit: "",
        body: Value::Null,
        id: "/data/task_id",
        status: "",
        anonymous: 401,
        final_status: ("", ""),
        http_errors: &[],
        link: "",
        callback_status: ("", Value::Null),
        callback_id: "",
        callbacks: 1,
        target: "/hook",
        attempts: 1,
        shape: Shape::A,
    }
}

#[expect(clippy::too_many_lines, reason = "a table")]
pub(crate) fn api_cases() -> Vec<ApiCase> {
    let relay = |shape, id, status, final_status, link, callback_status, callback_id| ApiCase {
        submit: "/video/generations",
        body: json!({ "model": "seedance", "prompt": "{script}", "seconds": "5", "metadata": { "callback_url": "{url}" } }),
        id,
        status,
        final_status,
        link,
        callback_status,
        callback_id,
        callbacks: if shape == Shape::D { 3 } else { 1 },
        attempts: if shape == Shape::D { 4 } else { 3 },
        shape,
        ..api_case(Provider::RelayDance)
    };
    let apimp = |model: &str, callback_status: (&'static str, Value), callbacks, attempts| ApiCase {
        submit: "/api/generate/submit",
        body: json!({ "model": model, "input": { "prompt": "{script}", "metadata": { "callback_url": "{url}" } } }),
        status: "/api/generate/status/{id}",
        final_status: ("/data/status", "finished"),
        link: "/data/files/0/file_url",
        callback_status,
        callbacks,
        attempts,
        ..api_case(Provider::Apimp)
    };
    vec![
        ApiCase {
            submit: "/text-to-video/kling-2.6",
            body: json!({ "prompt": "{script}", "settings": { "duration": 5 }, "options": { "callback_url": "{url}", "external_task_id": "own-1" } }),
            id: "/data/id",
            status: "/tasks?task_ids={id}",
            final_status: ("/data/0/status", "succeeded"),
            link: "/data/0/outputs/0/url",
            callback_status: ("/status", json!("succeeded")),
            callback_id: "/id",
            callbacks: 3,
            ..api_case(Provider::Kling)
        },
        ApiCase {
            submit: "/v1/videos/text2video",
            body: json!({ "prompt": "{script}", "model_name": "kling-v2", "duration": "5", "callback_url": "{url}" }),
            status: "/v1/videos/text2video/{id}",
            final_status: ("/data/task_status", "succeed"),
            link: "/data/task_result/videos/0/url",
            callback_status: ("/task_status", json!("succeed")),
            callback_id: "/task_id",
            callbacks: 3,
            ..api_case(Provider::Kling)
        },
        ApiCase {
            submit: "/api/v1/task/submit",
            body: json!({ "model": "seedance-2.0-fast", "input": { "prompt": "{script}" }, "callBackUrl": "{url}" }),
            id: "/data/taskId",
            status: "/api/v1/task/{id}",
            final_status: ("/data/status", "SUCCESS"),
            link: "/data/result/urls/0",
            callback_status: ("/data/status", json!("SUCCESS")),
            callback_id: "/data/taskId",
            ..api_case(Provider::MaxApi)
        },
        ApiCase {
            submit: "/videos/generations",
            body: json!({ "model": "sora-2", "prompt": "{script}", "webhook": "{url}/" }),
            id: "/data/0/task_id",
            status: "/tasks/{id}?language=en",
            final_status: ("/data/status", "completed"),
            link: "/data/result/videos/0/url/0",
            callback_status: ("/data/status", json!("completed")),
            callback_id: "/data/id",
            target: "/hook/callback",
            attempts: 4,
            ..api_case(Provider::ApiMart)
        },
        ApiCase {
            submit: "/contents/generations/tasks",
            body: json!({ "model": "doubao-seedance", "content": [{ "type": "text", "text": "{script}" }], "callback_url": "{url}" }),
            id: "/id",
            status: "/contents/generations/tasks/{id}",
            final_status: ("/status", "succeeded"),
            link: "/content/video_url",
            callback_status: ("/status", json!("succeeded")),
            callback_id: "/id",
            callbacks: 3,
            attempts: 4,
            ..api_case(Provider::Ark)
        },
        ApiCase {
            submit: "/v2/video_generation",
            body: json!({ "model": "MiniMax-H3", "content": [{ "type": "text", "text": "{script}" }], "callback_url": "{url}" }),
            id: "/task_id",
            status: "/v2/query/video_generation/{id}",
            final_status: ("/task/status", "succeeded"),
            link: "/task/content/url",
            callback_status: ("/task/status", json!("succeeded")),
            callback_id: "/task/id",
            callbacks: 4,
            ..api_case(Provider::MiniMax)
        },
        ApiCase {
            credential: ("authorization", "Token "),
            submit: "/ent/v2/text2video",
            body: json!({ "model": "viduq3-turbo", "prompt": "{script}", "payload": "own-1", "callback_url": "{url}" }),
            id: "/task_id",
            status: "/ent/v2/tasks/{id}/creations",
            final_status: ("/state", "success"),
            link: "/creations/0/url",
            callback_status: ("/state", json!("success")),
            callback_id: "/id",
            callbacks: 2,
            attempts: 4,
            ..api_case(Provider::Vidu)
        },
        ApiCase {
            submit: "/api/v1/runway/generate",
            body: json!({ "prompt": "{script}", "duration": 5, "quality": "720p", "callBackUrl": "{url}" }),
            id: "/data/taskId",
            status: "/api/v1/runway/record-detail?taskId={id}",
            final_status: ("/data/state", "success"),
            link: "/data/videoInfo/videoUrl",
            callback_status: ("/code", json!(200)),
            callback_id: "/data/task_id",
            attempts: 3,
            ..api_case(Provider::Kie)
        },
        ApiCase {
            submit: "/api/v1/veo/generate",
            body: json!({ "prompt": "{script}", "callBackUrl": "{url}" }),
            id: "/data/taskId",
            status: "/api/v1/veo/record-info?taskId={id}",
            final_status: ("/data/response/resolution", "1080p"),
            link: "/data/response/resultUrls/0",
            callback_status: ("/code", json!(200)),
            callback_id: "/data/taskId",
            attempts: 3,
            ..api_case(Provider::Kie)
        },
        ApiCase {
            submit: "/v1/models/kwaivgi/kling-v2.1/predictions",
            body: json!({ "input": { "prompt": "{script}" }, "webhook": "{url}", "webhook_events_filter": ["completed"] }),
            id: "/id",
            status: "/v1/predictions/{id}",
            final_status: ("/status", "succeeded"),
            link: "/output",
            callback_status: ("/status", json!("succeeded")),
            callback_id: "/id",
            attempts: 3,
            ..api_case(Provider::Replicate)
        },
        ApiCase {
            submit: "/api/v3/kwaivgi/kling-v2.5-turbo-pro/text-to-video?webhook={url}",
            body: json!({ "prompt": "{script}", "duration": 5 }),
            id: "/data/id",
            status: "/api/v3/predictions/{id}/result",
            final_status: ("/data/status", "completed"),
            link: "/data/outputs/0",
            callback_status: ("/status", json!("completed")),
            callback_id: "/id",
            attempts: 4,
            ..api_case(Provider::WaveSpeed)
        },
        ApiCase {
            credential: ("authorization", "Key "),
            submit: "/fal-ai/kling-video/v2.5-turbo/pro/text-to-video?fal_webhook={url}",
            body: json!({ "prompt": "{script}", "duration": "5" }),
            id: "/request_id",
            status: "/fal-ai/kling-video/requests/{id}",
            final_status: ("/video/content_type", "video/mp4"),
            http_errors: &["fail", "moderated", "timeout", "cancelled", "expired"],
            link: "/video/url",
            callback_status: ("/status", json!("OK")),
            callback_id: "/request_id",
            attempts: 3,
            ..api_case(Provider::Fal)
        },
        ApiCase {
            submit: "/v1/videos/generations",
            body: json!({ "model": "grok-imagine-video", "prompt": "{script}", "duration": 6 }),
            id: "/request_id",
            status: "/v1/videos/{id}",
            final_status: ("/status", "done"),
            http_errors: &["moderated"],
            link: "/video/url",
            callbacks: 0,
            attempts: 0,
            ..api_case(Provider::Grok)
        },
        ApiCase {
            header: Some(("x-runway-version", "2024-11-06")),
            submit: "/v1/text_to_video",
            body: json!({ "model": "gen4.5", "promptText": "{script}", "ratio": "1280:720", "duration": 5 }),
            id: "/id",
            status: "/v1/tasks/{id}",
            final_status: ("/status", "SUCCEEDED"),
            link: "/output/0",
            callbacks: 0,
            attempts: 0,
            ..api_case(Provider::Runway)
        },
        ApiCase {
            submit: "/videos",
            body: json!({ "model": "google/veo-3.1", "prompt": "{script}", "duration": 4, "callback_url": "{url}" }),
            id: "/id",
            status: "/videos/{id}",
            final_status: ("/status", "completed"),
            link: "/unsigned_urls/0",
            callback_status: ("/type", json!("video.generation.completed")),
            callback_id: "/data/id",
            ..api_case(Provider::OpenRouter)
        },
        ApiCase {
            header: Some(("x-dashscope-async", "enable")),
            submit: "/api/v1/services/aigc/video-generation/video-synthesis",
            body: json!({ "model": "wan2.7-t2v", "input": { "prompt": "{script}" }, "parameters": { "duration": 5 } }),
            id: "/output/task_id",
            status: "/api/v1/tasks/{id}",
            final_status: ("/output/task_status", "SUCCEEDED"),
            link: "/output/video_url",
            callbacks: 0,
            attempts: 0,
            ..api_case(Provider::Wan)
        },
        ApiCase {
            credential: ("x-goog-api-key", ""),
            submit: "/v1beta/models/veo-3.1-generate-preview:predictLongRunning",
            body: json!({ "instances": [{ "prompt": "{script}" }], "webhookConfig": { "uris": ["{url}"] } }),
            id: "/name",
            status: "/v1beta/{id}",
            anonymous: 403,
            final_status: ("/response/generateVideoResponse/generatedSamples", ""),
            link: "/response/generateVideoResponse/generatedSamples/0/video/uri",
            callback_status: ("/type", json!("video.generated")),
            callback_id: "/data/id",
            attempts: 4,
            ..api_case(Provider::Veo)
        },
        apimp("kling-2.6", ("/task_status", json!("succeed")), 3, 1),
        apimp("doubao-seedance-2", ("/status", json!("succeeded")), 3, 4),
        apimp("vidu-q3", ("/state", json!("success")), 2, 4),
        apimp("minimax-hailuo-2.3", ("/status", json!("success")), 3, 1),
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

pub(crate) fn filled(body: &Value, url: &str, script: &str) -> Value {
    let text = body.to_string().replace("{url}", url).replace("{script}", script);
    serde_json::from_str(&text).expect("still JSON")
}
