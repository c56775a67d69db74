//! Every way to write an address that is not public, as a link and as the target of a redirect. Two listeners on this machine
//! stay silent, and hear everybody else who follows the same links.

use reelhook_core::transfer::fault::{BlockedLink, CopyFault};

use crate::Stage;
use crate::origin::{Origin, Reply};

/// Ways to write this machine, of which the listeners hear all: each leads to 127.0.0.1, or to `::1`.
const THIS_MACHINE: [&str; 37] = [
    "127.0.0.1",
    "127.0.0.1.",
    "127.1",
    "127.0.1",
    "127.1.",
    "2130706433",
    "2130706433.",
    "0x7f000001",
    "0X7F000001",
    "017700000001",
    "0x7f.1",
    "0x7f.0.0.1",
    "0177.0.0.1",
    "0177.0.0.01",
    "00000177.0.0.0x1",
    "127.0x0.0.1",
    "%31%32%37.0.0.1",
    "127%2E0%2E0%2E1",
    "１２７.0.0.1",
    "127。0。0。1",
    "127．0．0．1",
    "①②⑦.⓪.⓪.①",
    "𝟙𝟚𝟟.𝟘.𝟘.𝟙",
    "0",
    "0x0",
    "0.0.0.0",
    "localhost",
    "LOCALHOST",
    "ｌｏｃａｌｈｏｓｔ",
    "local%68ost",
    "user@127.0.0.1",
    "cdn.example.com:443@127.0.0.1",
    "user:p%40ss@localhost",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::FFFF:7F00:0001]",
];

/// The same in characters that a URL loses when it is read. A header cannot carry all of them.
const THIS_MACHINE_IN_PIECES: [&str; 4] = ["127.0\t.0.1", "127.0\n.0.1", "\r127.0.0.1", "local\u{ad}host"];

/// Addresses that are not public, for which nothing can listen here: private networks, metadata services, networks of carriers
/// and for documentation, multicast and reserved ones.
const NOT_PUBLIC: [[u8; 4]; 31] = [
    [0, 1, 2, 3],
    [10, 0, 0, 1],
    [10, 255, 255, 255],
    [100, 64, 0, 1],
    [100, 100, 100, 200],
    [100, 127, 255, 255],
    [127, 0, 0, 1],
    [127, 255, 255, 254],
    [169, 254, 0, 1],
    [169, 254, 100, 1],
    [169, 254, 169, 253],
    [169, 254, 169, 254],
    [169, 254, 170, 2],
    [169, 254, 170, 23],
    [172, 16, 0, 1],
    [172, 31, 255, 255],
    [192, 0, 0, 1],
    [192, 0, 0, 192],
    [192, 0, 2, 1],
    [192, 88, 99, 1],
    [192, 168, 0, 1],
    [192, 168, 255, 255],
    [198, 18, 0, 1],
    [198, 19, 255, 255],
    [198, 51, 100, 1],
    [203, 0, 113, 1],
    [224, 0, 0, 1],
    [239, 255, 255, 255],
    [240, 0, 0, 1],
    [255, 255, 255, 254],
    [255, 255, 255, 255],
];

/// IPv6 addresses that are not public, and some that no URL can have.
const NOT_PUBLIC_V6: [&str; 22] = [
    "[::]",
    "[::127.0.0.1]",
    "[::ffff:0:127.0.0.1]",
    "[64:ff9b:1::7f00:1]",
    "[100::1]",
    "[100:0:0:1::1]",
    "[2001::1]",
    "[2001:0:7f00:1::]",
    "[2001:db8::1]",
    "[2001:20::1]",
    "[3fff::1]",
    "[5f00::1]",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[fd00:ec2::23]",
    "[fe80::1]",
    "[fe80::a9fe:a9fe]",
    "[fec0::1]",
    "[ff02::1]",
    "[::1%25lo]",
    "[fe80::1%25eth0]",
    "[fe80::1%eth0]",
];

/// The ways to write an IPv4 address, and the IPv6 addresses that carry it.
fn spellings([a, b, c, d]: [u8; 4]) -> Vec<String> {
    let number = u32::from_be_bytes([a, b, c, d]);
    let (high, low) = (number >> 16, number & 0xffff);
    vec![
        format!("{a}.{b}.{c}.{d}"),
        format!("{a}.{b}.{c}.{d}."),
        format!("{number}"),
        format!("0x{number:x}"),
        format!("0{number:o}"),
        format!("0x{a:x}.0x{b:X}.0{c:o}.{d}"),
        format!("0{a:o}.{b}.{low}"),
        format!("{a}.{}", number & 0x00ff_ffff),
        format!("{a}。{b}．{c}｡{d}"),
        format!("user@{a}.{b}.{c}.{d}"),
        format!("[::ffff:{a}.{b}.{c}.{d}]"),
        format!("[0:0:0:0:0:ffff:{high:x}:{low:x}]"),
        format!("[64:ff9b::{a}.{b}.{c}.{d}]"),
        format!("[64:FF9B::{high:x}:{low:x}]"),
        format!("[2002:{high:x}:{low:x}::]"),
        format!("[2002:{high:x}:{low:x}::1]"),
    ]
}

/// Links to a host: over https, over http that is tried as https, and in spellings that become one of the two.
fn links(host: &str, port: u16) -> Vec<String> {
    let end = format!("{host}:{port}/v?s=1");
    let mut links: Vec<String> =
        ["https://", "http://", "HTTPS://", "hTTp://", "https:", "https:/", "https:///", "https:\\\\", "http:/\\"]
            .iter()
            .map(|scheme| format!("{scheme}{end}"))
            .collect();
    links.push(format!("https://{host}:{port}\\@cdn.example.com/v"));
    links.push(format!("https://{host}:{port}?@cdn.example.com/v"));
    links.push(format!("https://{host}:{port}#@cdn.example.com/v"));
    links.push(format!(" https://{end} "));
    links
}

/// Two listeners with one port, on 127.0.0.1 and on `::1` where the machine has that.
struct Listeners(Vec<Origin>);

impl Listeners {
    async fn start() -> Self {
        let first = Origin::start().await.expect("an origin");
        let second = Origin::start_on(&format!("[::1]:{}", port_of(&first))).await;
        Self([first].into_iter().chain(second).collect())
    }

    fn port(&self) -> u16 {
        port_of(&self.0[0])
    }

    fn connections(&self) -> u64 {
        self.0.iter().map(Origin::connections).sum()
    }
}

fn port_of(origin: &Origin) -> u16 {
    origin.authority().rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port")
}

/// Whether nothing listens at an address of IPv6.
fn is_deaf(host: &str, listeners: &Listeners) -> bool {
    listeners.0.len() < 2 && host.starts_with('[') && !host.to_lowercase().contains("ffff")
}

#[tokio::test]
async fn the_listeners_hear_who_follows_a_link_without_looking() {
    let listeners = Listeners::start().await;
    // As the guarded client is built, but for the guard.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let careless = reqwest::Client::builder().no_proxy().build().expect("a client");
    for host in THIS_MACHINE.into_iter().chain(THIS_MACHINE_IN_PIECES).filter(|host| !is_deaf(host, &listeners)) {
        let before = listeners.connections();
        let link = format!("http://{host}:{}/v", listeners.port());
        // What it responds is of no interest.
        let _ = careless.get(&link).header("connection", "close").send().await;
        assert!(listeners.connections() > before, "{link}");
    }
}

#[tokio::test]
async fn nobody_is_connected_for_a_link_or_a_redirect_to_what_is_not_public() {
    let (stage, listeners) = (Stage::new().await, Listeners::start().await);
    let hosts = THIS_MACHINE.into_iter().chain(THIS_MACHINE_IN_PIECES).chain(NOT_PUBLIC_V6);
    let mut targets: Vec<String> = hosts.flat_map(|host| links(host, listeners.port())).collect();
    for host in NOT_PUBLIC.into_iter().flat_map(spellings) {
        targets.extend([format!("https://{host}/latest/meta-data/"), format!("http://{host}:{}/v", listeners.port())]);
    }
    let mut cases = 0;
    for link in targets {
        let fault = stage.copy_link(&link).await.expect_err("it is not public").fault;
        let is_blocked = matches!(fault, CopyFault::Blocked(BlockedLink::Address | BlockedLink::Unreadable));
        assert!(is_blocked, "{link:?}: {fault}");
        cases += 1;
        // A header has no line breaks.
        if link.contains(['\n', '\r']) {
            continue;
        }
        let target = link.clone();
        stage.origin.on("/v", move |_| Reply::redirect(&target));
        let fault = stage.copy("/v").await.expect_err("it is not public").fault;
        let is_blocked = matches!(fault, CopyFault::Blocked(BlockedLink::Address | BlockedLink::RedirectTarget));
        assert!(is_blocked, "redirect to {link:?}: {fault}");
        cases += 1;
    }
    assert_eq!(listeners.connections(), 0, "in {cases} cases");
    assert!(cases > 3_000, "{cases}");
    stage.assert_untouched();
}

/// A redirect without a scheme or host stays with what the link had, and a chain is judged at every step.
#[tokio::test]
async fn nobody_is_connected_at_the_end_of_a_chain_of_redirects() {
    let (stage, listeners) = (Stage::new().await, Listeners::start().await);
    let port = listeners.port();
    for target in [format!("//127.0.0.1:{port}/v"), format!("//localhost:{port}/v"), format!("\\\\127.1:{port}\\v")] {
        for steps in 1..=4 {
            stage.origin.on("/0", {
                let target = target.clone();
                move |_| Reply::redirect(&target)
            });
            for step in 1..=steps {
                stage.origin.on(&format!("/{step}"), move |_| Reply::redirect(&format!("/{}", step - 1)));
            }
            let fault = stage.copy(&format!("/{steps}")).await.expect_err("it is not public").fault;
            assert!(matches!(fault, CopyFault::Blocked(BlockedLink::Address)), "{target} after {steps}: {fault}");
        }
    }
    for scheme in
        ["ftp", "file", "gopher", "dict", "ldap", "data", "javascript", "ws", "jar:https", "unix", "sftp", "blob:https"]
    {
        let target = format!("{scheme}://127.0.0.1:{port}/v");
        let fault = stage.copy_link(&target).await.expect_err("it is no https").fault;
        assert!(
            matches!(fault, CopyFault::Blocked(BlockedLink::Scheme | BlockedLink::Unreadable)),
            "{target}: {fault}"
        );
        stage.origin.on("/v", move |_| Reply::redirect(&target));
        let fault = stage.copy("/v").await.expect_err("it is no https").fault;
        assert!(
            matches!(fault, CopyFault::Blocked(BlockedLink::Scheme | BlockedLink::RedirectTarget)),
            "{scheme}: {fault}"
        );
    }
    assert_eq!(listeners.connections(), 0);
    stage.assert_untouched();
}
