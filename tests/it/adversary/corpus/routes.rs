//! Forgeries of the path, the token in it, and the method. They are the same for all providers.

use reelhook_core::Provider;
use reelhook_core::redacted::Secret;
use reelhook_core::token::CallbackKeys;

use super::request::{
    Forgery, NOT_ALLOWED, NOT_FOUND, Request, TOO_LARGE, UNAUTHORIZED, UNAUTHORIZED_OR_NOT_FOUND, flipped_bits,
};

/// The key that signs callback URLs in the settings of these tests.
const KEY: &str = "no-secret:local-use-only";

/// Forgeries of a genuine request by somebody who knows everything but the token. `other` is a genuine request about another
/// task of the same provider.
pub(super) fn forgeries(genuine: &Request, other: &Request) -> Vec<Forgery> {
    let mut forgeries = flipped_tokens(genuine);
    forgeries.extend(other_tokens(genuine, other));
    forgeries.extend(wrong_tokens(genuine));
    forgeries.extend(tokens_elsewhere(genuine));
    forgeries.extend(other_paths(genuine));
    forgeries.extend(other_methods(genuine));
    forgeries
}

/// Every bit of the token, as it is and percent-encoded.
fn flipped_tokens(genuine: &Request) -> Vec<Forgery> {
    let mut forgeries = Vec::new();
    for (bit, token) in flipped_bits(genuine.token()) {
        let encoded = spelled(&token, |byte| format!("%{byte:02X}"));
        for (how, token) in [("", token), (" percent-encoded", encoded)] {
            let name = format!("the token with bit {bit} flipped{how}");
            forgeries.push(genuine.forged(name, UNAUTHORIZED_OR_NOT_FOUND, |request| request.set_part(3, &token)));
        }
    }
    forgeries
}

/// Tokens that are valid somewhere else.
fn other_tokens(genuine: &Request, other: &Request) -> Vec<Forgery> {
    let token_of = |key: &str, provider: Provider, id: Option<&str>| {
        let keys = CallbackKeys::new(vec![Secret::new(key)]).expect("a valid key");
        let id = id.map(|id| id.parse().expect("a task id"));
        keys.path(provider, id.as_ref()).rsplit('/').next().expect("a token").to_owned()
    };
    let (own, id) = (Provider::from_name(genuine.parts()[1]).expect("a provider"), genuine.parts()[2]);
    assert_eq!(token_of(KEY, own, Some(id)), genuine.token(), "otherwise these are no tokens of other tasks");
    let mut tokens = vec![
        ("of another task".to_owned(), other.token().to_owned()),
        ("of the static URL".to_owned(), token_of(KEY, own, None)),
        ("under another key".to_owned(), token_of("another key of the same length", own, Some(id))),
        ("under the example's key".to_owned(), token_of("a long random text", own, Some(id))),
    ];
    let others: Vec<Provider> =
        Provider::ALL.into_iter().filter(|provider| *provider != own && provider.calls_back()).collect();
    for &provider in &others {
        tokens.push((format!("of {provider} for this id"), token_of(KEY, provider, Some(id))));
    }
    let forge = |(name, token): &(String, String)| {
        genuine.forged(format!("a token {name}"), UNAUTHORIZED, |request| request.set_part(3, token))
    };
    let mut forgeries: Vec<Forgery> = tokens.iter().map(forge).collect();
    // The token of this task, for another task, another provider, and one that nobody has.
    for id in [other.parts()[2], "nobody-s-task", &id.to_uppercase(), &format!("{id}."), &format!("{id}-")] {
        forgeries.push(genuine.forged(format!("its token for {id}"), UNAUTHORIZED, |request| request.set_part(2, id)));
    }
    for provider in others {
        let name = format!("its token for {provider}");
        forgeries.push(genuine.forged(name, UNAUTHORIZED, |request| request.set_part(1, provider.name())));
    }
    forgeries
}

/// The characters of a token.
const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// A text with every byte spelled out.
fn spelled(text: &str, spell: impl Fn(u8) -> String) -> String {
    text.bytes().map(spell).collect()
}

/// What is no token, or the token in another form.
fn wrong_tokens(genuine: &Request) -> Vec<Forgery> {
    let token = genuine.token();
    let mut tokens: Vec<String> = (1..token.len()).map(|length| token[..length].to_owned()).collect();
    tokens.extend((1..token.len()).map(|start| token[start..].to_owned()));
    for surplus in ["A", "=", "==", "AA", "AAAA", "%00", "%20", "%0A", "\u{200b}", ".", "~", "?", ";v=1", "%2Fcallback"]
    {
        tokens.extend([format!("{token}{surplus}"), format!("{surplus}{token}")]);
    }
    // The last character holds four bits that decode to nothing.
    tokens.extend(ALPHABET.chars().map(|last| format!("{}{last}", &token[..token.len() - 1])));
    tokens.extend([
        token.to_uppercase(),
        token.to_lowercase(),
        token.replace('-', "+").replace('_', "/"),
        token.chars().rev().collect(),
        token.repeat(2),
        spelled(token, |byte| format!("%{byte:02x}")),
        spelled(token, |byte| format!("%25{byte:02x}")),
        spelled(token, |byte| format!("%u00{byte:02x}")),
        // The same letters, in their full width.
        token.chars().map(|letter| char::from_u32(u32::from(letter) + 0xfee0).unwrap_or(letter)).collect(),
        "A".repeat(22),
        "_".repeat(22),
        "0".repeat(22),
        "A".repeat(8000),
        "A".repeat(70_000),
    ]);
    tokens.extend(
        ["-", ".", "..", "*", "%", "%00", "null", "undefined", "true", "0", "[]", "{}", "'", "\"", "$ne", "ü", "🎬"]
            .map(str::to_owned),
    );
    tokens.retain(|other| other != token);
    let forge = |token: &String| {
        let name = format!("the token {}", token.chars().take(60).collect::<String>());
        genuine.forged(name, UNAUTHORIZED_OR_NOT_FOUND, |request| request.set_part(3, token))
    };
    tokens.iter().map(forge).collect()
}

/// The token where nobody looks for it.
fn tokens_elsewhere(genuine: &Request) -> Vec<Forgery> {
    let token = genuine.token().to_owned();
    let wrong = "AAAAAAAAAAAAAAAAAAAAAA";
    let (path, other_path) = (genuine.path.clone(), genuine.path.replace(&token, wrong));
    let mut forgeries = Vec::new();
    for header in
        ["authorization", "x-original-url", "x-rewrite-url", "x-forwarded-uri", "x-callback-token", "cookie", "referer"]
    {
        for value in [format!("Bearer {token}"), token.clone(), path.clone(), format!("token={token}")] {
            let name = format!("the token in {header}: {}", value.len());
            forgeries.push(genuine.forged(name, UNAUTHORIZED, |request| {
                request.path.clone_from(&other_path);
                request.set_header(header, value);
            }));
        }
    }
    let mut queries = vec![format!("token={token}"), format!("/{token}"), path.clone(), "a".repeat(70_000)];
    // Some of these cannot be part of a URI.
    queries.extend(
        ["x=1&x=2", "%00", "<>", "a b", "\"", "ü", "{}|^`\\", "#", "?", "\u{0}", "\n", "%", "🎬"].map(str::to_owned),
    );
    for query in queries {
        let shown: String = query.chars().take(60).collect();
        forgeries.push(genuine.forged(format!("the query {shown:?}"), UNAUTHORIZED, |request| {
            request.path.clone_from(&other_path);
            request.query = query;
        }));
    }
    for (name, value) in [
        ("x-http-method-override", "POST"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-real-ip", "127.0.0.1"),
        ("x-amzn-trace-id", "Root=1;Parent=x"),
        ("content-length", "0"),
        ("transfer-encoding", "chunked"),
        ("expect", "100-continue"),
        ("x-long", &"a".repeat(9000)),
        ("x-note", "ü🎬"),
        ("user-agent", "视频"),
        ("host", "a b"),
        ("host", "[::1"),
        ("host", "127.0.0.1:99999"),
        ("host", ""),
        ("x-forwarded-proto", "file"),
        ("x-forwarded-proto", "1:"),
        ("x-forwarded-proto", ""),
    ] {
        forgeries.push(genuine.forged(format!("a wrong token with {name}"), UNAUTHORIZED, |request| {
            request.path.clone_from(&other_path);
            request.set_header(name, value);
        }));
    }
    forgeries
}

/// What is no callback URL: other spellings of one.
fn other_paths(genuine: &Request) -> Vec<Forgery> {
    let path = &genuine.path;
    let rest = path.strip_prefix("/callback/").expect("a callback URL");
    let [_, provider, id, token, ..] = genuine.parts()[..] else { panic!("a callback URL has four parts") };
    let full_width: String =
        provider.chars().map(|letter| char::from_u32(u32::from(letter) + 0xfee0).unwrap_or(letter)).collect();
    let mut paths = vec![
        String::new(),
        "/".to_owned(),
        "/callback".to_owned(),
        "/callback/".to_owned(),
        "*".to_owned(),
        rest.to_owned(),
        format!("callback/{rest}"),
        format!("/{path}"),
        format!("/callback//{rest}"),
        format!("/CALLBACK/{rest}"),
        format!("/Callback/{rest}"),
        format!("/c\u{430}llback/{rest}"),
        format!("/%63allback/{rest}"),
        format!("/./callback/{rest}"),
        format!("/x/../callback/{rest}"),
        format!("/callback/x/../{rest}"),
        format!("/tasks{path}"),
        format!("http://127.0.0.1{path}"),
        path.replace('/', "\\"),
        path.replace('/', "%2F"),
        path.replace('/', "\u{2215}"),
        format!("{path}/../{token}"),
        format!("{path}/x"),
        format!("/callback/{provider}/{id}"),
        format!("/callback/{provider}/{id}/{token}/callback/callback"),
        format!("/callback/{provider}/{id}/x/{token}"),
        format!("/callback/{provider}/{id}%00/{token}"),
        format!("/callback/{provider}/{id}%2F/{token}"),
        format!("/callback/{provider}/%2e%2e/{token}"),
        format!("/callback/{provider}/../{token}"),
        format!("/callback/{provider}//{token}"),
        format!("/callback/{provider}/{id}\u{301}/{token}"),
        format!("/callback/{provider}/{}/{token}", "a".repeat(129)),
    ];
    for name in ["", "nobody", "-", "%6bling", "kling\0", "\u{212a}ling", " kling", "kling ", "kling;", &full_width] {
        paths.push(format!("/callback/{name}/{id}/{token}"));
    }
    paths.push(format!("/callback/{}/{id}/{token}", provider.to_uppercase()));
    let forge = |other: &String| {
        let name = format!("the path {}", other.chars().take(60).collect::<String>());
        genuine.forged(name, NOT_FOUND, |request| request.path.clone_from(other))
    };
    paths.iter().map(forge).collect()
}

/// A genuine URL and signature, with what no provider sends.
fn other_methods(genuine: &Request) -> Vec<Forgery> {
    let mut forgeries = Vec::new();
    for method in
        ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "post", "Post", "POSTS", "BREW"]
    {
        forgeries.push(genuine.forged(format!("the method {method}"), NOT_ALLOWED, |request| {
            method.clone_into(&mut request.method);
            request.set_header("x-http-method-override", "POST");
        }));
    }
    let limit = reelhook_core::request::MAX_BODY;
    for (name, body) in [("spaces", vec![b' '; limit + 1]), ("bytes that are no text", vec![0xff; limit + 1])] {
        forgeries.push(genuine.forged(format!("too many {name}"), TOO_LARGE, |request| request.body = body));
    }
    forgeries
}
