//! Nobody can make the copier connect to what is not public, or give away what it was given.

use reelhook_aws::copy::{CopyRequest, PriorAttempt};
use reelhook_aws::ssrf::OriginPolicy;
use reelhook_core::credential::Credential;
use reelhook_core::redacted::{Secret, SignedUrl};
use reelhook_core::report::Kind;
use reelhook_core::transfer::fault::{BlockedLink, CopyFault};
use tokio::time::Instant;

use crate::origin::{Film, Origin, Reply};
use crate::{KEY, LONG, STEM, Stage, copier, task};

/// Ways to write an address that is not public, or a name that leads there.
const INSIDE: [&str; 22] = [
    "https://127.0.0.1/v",
    "https://127.0.0.1:9001/2018-06-01/runtime/invocation/next",
    "https://127.1/v",
    "https://2130706433/v",
    "https://0177.0.0.1/v",
    "https://0x7f.0.0.1/v",
    "https://0x7f000001/v",
    "https://127.0.0.1./v",
    "https://localhost/v",
    "https://LOCALHOST/v",
    "https://169.254.169.254/latest/meta-data/",
    "https://169.254.100.1/",
    "https://10.0.0.1/v",
    "https://100.64.0.1/v",
    "https://[::1]/v",
    "https://[::ffff:127.0.0.1]/v",
    "https://[::ffff:7f00:1]/v",
    "https://[64:ff9b::7f00:1]/v",
    "https://[2002:7f00:1::]/v",
    "https://[fd00:ec2::254]/latest/meta-data/",
    "https://0.0.0.0/v",
    "https://user:password@127.0.0.1/v",
];

#[tokio::test]
async fn no_link_leads_to_an_address_that_is_not_public() {
    let stage = Stage::new().await;
    for link in INSIDE {
        let fault = stage.copy_link(link).await.expect_err("it is not public").fault;
        assert!(matches!(fault, CopyFault::Blocked(BlockedLink::Address)), "{link}: {fault}");
    }
    assert_eq!(stage.origin.connections(), 0);
    stage.assert_untouched();
}

#[tokio::test]
async fn no_redirect_leads_to_an_address_that_is_not_public() {
    let stage = Stage::new().await;
    for target in INSIDE {
        stage.origin.on("/v", move |_| Reply::redirect(target));
        let fault = stage.copy("/v").await.expect_err("it is not public").fault;
        assert!(matches!(fault, CopyFault::Blocked(BlockedLink::Address)), "{target}: {fault}");
    }
    stage.assert_untouched();
}

#[tokio::test]
async fn an_allowed_origin_allows_nothing_but_itself() {
    let stage = Stage::new().await;
    let neighbour = Origin::start().await.expect("an origin");
    let film = Film::new(100_000, 1);
    neighbour.film("/v", &film);
    stage.origin.film("/film", &film);
    let port = stage.origin.authority().rsplit(':').next().expect("a port").to_owned();
    for (target, blocked) in [
        // Plain http is tried as https, and stays out all the same.
        (neighbour.link("/v"), BlockedLink::Address),
        (neighbour.link("/v").replace("http:", "https:"), BlockedLink::Address),
        (format!("http://localhost:{port}/film"), BlockedLink::Address),
        (format!("https://localhost:{port}/film"), BlockedLink::Address),
        (format!("http://127.0.0.2:{port}/film"), BlockedLink::Address),
        (format!("ftp://{}/film", stage.origin.authority()), BlockedLink::Scheme),
        ("http://169.254.169.254/latest/meta-data/".to_owned(), BlockedLink::Address),
    ] {
        let fault = stage.copy_link(&target).await.expect_err("it is not allowed").fault;
        assert!(matches!(&fault, CopyFault::Blocked(found) if *found == blocked), "{target}: {fault}");
        let redirect = target.clone();
        stage.origin.on("/v", move |_| Reply::redirect(&redirect));
        let fault = stage.copy("/v").await.expect_err("it is not allowed").fault;
        assert!(matches!(&fault, CopyFault::Blocked(found) if *found == blocked), "redirect to {target}: {fault}");
    }
    assert_eq!(neighbour.connections(), 0);
    stage.assert_untouched();
}

/// A provider gives its files out by its API and redirects to its storage. The key is for the API.
#[tokio::test]
async fn a_key_goes_to_the_api_and_not_where_that_redirects_to() {
    let Stage { origin: api, bucket, .. } = Stage::new().await;
    let storage = Origin::start().await.expect("an origin");
    let film = Film::new(40_000_000, 1);
    storage.film("/film", &film);
    let target = storage.link("/film");
    api.on("/content", move |request| match request.header("x-api-key") {
        Some("s3cret") => Reply::redirect(&target),
        _ => Reply::status(401, ""),
    });
    let copier = copier(&bucket.endpoint(), &[&api.authority(), &storage.authority()]);
    let copy = async |key: Option<&str>| {
        let request = CopyRequest {
            task: &task(),
            link: &SignedUrl::new(api.link("/content")),
            credential: key.map(|key| Credential::new("x-api-key", Secret::new(key), [api.link("/").as_str()])),
            key_stem: STEM,
            kind: Kind::Video,
            tagging: None,
            reported_at: crate::REPORTED_AT,
            expires_at: None,
            deadline: Instant::now() + LONG,
            prior: PriorAttempt::None,
            resume: None,
        };
        copier.copy(request).await
    };
    copy(None).await.expect_err("the API wants a key");
    copy(Some("s3cret")).await.expect("it is copied");
    assert!(bucket.object(KEY).expect("the object is there").bytes == film.bytes(), "the bytes are the film's");
    assert!(storage.requests().len() > 2, "it came in pieces");
    for request in storage.requests() {
        assert!(!format!("{:?}", request.headers).contains("s3cret"), "{:?}", request.headers);
    }
}

#[tokio::test]
async fn what_is_not_a_link_is_blocked() {
    let stage = Stage::new().await;
    for link in
        ["", "v.mp4", "https://", "file:///etc/passwd", "data:video/mp4;base64,AAAA", "https://[::1/v", "https://a b/v"]
    {
        let fault = stage.copy_link(link).await.expect_err("it is no link").fault;
        assert!(matches!(fault, CopyFault::Blocked(BlockedLink::Unreadable | BlockedLink::Scheme)), "{link}: {fault}");
    }
}

#[tokio::test]
async fn five_redirects_are_followed_and_no_more() {
    for (redirects, stored) in [(1, true), (5, true), (6, false)] {
        let stage = Stage::new().await;
        let film = Film::new(20_000_000, 1);
        stage.origin.film("/0", &film);
        for number in 1..=redirects {
            stage.origin.on(&format!("/{number}"), move |_| Reply::redirect(&format!("/{}", number - 1)));
        }
        let result = stage.copy(&format!("/{redirects}")).await;
        if stored {
            stage.assert_stored(&film, &result);
            let requests = stage.origin.requests();
            let first = requests.iter().filter(|request| request.target == format!("/{redirects}")).count();
            assert_eq!(first, 1, "pieces are requested where the link leads");
        } else {
            let fault = result.expect_err("it is too far").fault;
            assert!(matches!(fault, CopyFault::Blocked(BlockedLink::Redirects)), "{fault}");
            stage.assert_untouched();
        }
    }
}

#[tokio::test]
async fn a_loop_of_redirects_ends() {
    let stage = Stage::new().await;
    stage.origin.on("/v", |_| Reply::redirect("/w"));
    stage.origin.on("/w", |_| Reply::redirect("/v"));
    let fault = stage.copy("/v").await.expect_err("it goes round").fault;
    assert!(matches!(fault, CopyFault::Blocked(BlockedLink::Redirects)), "{fault}");
    assert_eq!(stage.origin.requests().len(), 6);
    stage.assert_untouched();
}

#[tokio::test]
async fn a_redirect_to_nowhere_is_refused() {
    for reply in [Reply::status(302, ""), Reply::redirect("https://"), Reply::redirect("http://[")] {
        let stage = Stage::new().await;
        stage.origin.on("/v", move |_| reply.clone());
        let fault = stage.copy("/v").await.expect_err("it leads nowhere").fault;
        assert!(matches!(fault, CopyFault::Blocked(BlockedLink::RedirectTarget)), "{fault}");
    }
}

#[tokio::test]
async fn nothing_of_the_link_is_sent_on() {
    let stage = Stage::new().await;
    let other = Origin::start().await.expect("an origin");
    let film = Film::new(100_000, 1);
    other.film("/film", &film);
    let target = other.link("/film");
    stage.origin.on("/v?signature=secret", move |_| Reply::redirect(&target).header("Set-Cookie", "session=secret"));
    let copier = copier(&stage.bucket.endpoint(), &[&stage.origin.authority(), &other.authority()]);
    let stage = Stage { copier, ..stage };
    let link = stage.origin.link("/v?signature=secret").replace("http://", "http://user:secret@");
    let result = stage.copy_link(&link).await;
    stage.assert_stored(&film, &result);
    for request in stage.origin.requests().iter().chain(&other.requests()) {
        for header in ["authorization", "cookie", "referer"] {
            assert_eq!(request.header(header), None);
        }
        assert!(request.header("user-agent").is_some_and(|agent| agent.starts_with("reelhook/")));
    }
    assert!(!format!("{:?}", other.requests()).contains("secret"));
}

#[tokio::test]
async fn no_error_repeats_the_link() {
    let stage = Stage::new().await;
    let links = INSIDE.map(|link| format!("{link}?signature=secret"));
    for link in links.into_iter().chain(["https://name.invalid/v?signature=secret".to_owned()]) {
        let failure = stage.copy_link(&link).await.expect_err("it fails");
        let text = format!("{failure} {failure:?}");
        assert!(!text.contains("secret") && !text.contains("signature"), "{text}");
    }
}

#[test]
fn origins_are_host_and_port() {
    for origin in ["127.0.0.1:8080", "localhost:80", "[::1]:443", "origin.example:8443"] {
        OriginPolicy::allowing([origin]).expect("an origin");
    }
    for origin in ["", "127.0.0.1", "http://127.0.0.1:80", "127.0.0.1:80/path", "user@127.0.0.1:80", ":80", "a:b"] {
        OriginPolicy::allowing([origin]).expect_err(origin);
    }
}
