//! The connections of the SDK's HTTP client.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_credential_types::Credentials;
use futures_util::future::join_all;
use reelhook_aws::clients::{Clients, RetryPolicy};
use reelhook_aws::settings::SettingsStore;
use reelhook_aws::table::Table;
use reelhook_core::TaskKey;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

/// What a service does with a connection.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    /// Responds to each request, for as long as they come.
    Patient,
    /// Closes the connection a moment after its first response, and does not announce it.
    ClosesIdle,
    /// Cuts its first response off in the middle, once.
    CutsOnce,
    /// Responds to the head of a request, and does not read the rest.
    Hasty,
}

/// A service in which nothing is stored.
#[derive(Default)]
struct Service {
    connections: AtomicUsize,
    open: AtomicUsize,
    most_open: AtomicUsize,
    requests: AtomicUsize,
    head: Mutex<String>,
}

impl Service {
    async fn start(manner: Manner) -> (Arc<Self>, Clients) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let service = Arc::<Self>::default();
        let serving = Arc::clone(&service);
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let service = Arc::clone(&serving);
                service.connections.fetch_add(1, Ordering::SeqCst);
                let open = service.open.fetch_add(1, Ordering::SeqCst) + 1;
                service.most_open.fetch_max(open, Ordering::SeqCst);
                tokio::spawn(async move {
                    service.serve(connection, manner).await.ok();
                    service.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        let credentials = Credentials::new("key", "secret", None, None, "test");
        (service, Clients::new(RetryPolicy::BACKGROUND, credentials, "us-east-1".to_owned(), Some(&endpoint)))
    }

    async fn serve(&self, mut connection: TcpStream, manner: Manner) -> std::io::Result<()> {
        let mut received = Vec::new();
        loop {
            let is_enough = |received: &[u8]| match manner {
                Manner::Hasty => !received.is_empty(),
                _ => is_complete(received),
            };
            while !is_enough(&received) {
                if connection.read_buf(&mut received).await? == 0 {
                    return Ok(());
                }
            }
            *self.head.lock().expect("no panic") = String::from_utf8_lossy(&received).to_lowercase();
            let earlier = self.requests.fetch_add(1, Ordering::SeqCst);
            // Long enough for other calls to come meanwhile.
            sleep(Duration::from_millis(5)).await;
            let response =
                b"HTTP/1.1 200 OK\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length: 2\r\n\r\n{}";
            if manner == Manner::CutsOnce && earlier == 0 {
                return connection.write_all(&response[..response.len() - 1]).await;
            }
            connection.write_all(response).await?;
            match manner {
                Manner::ClosesIdle => return Ok(()),
                Manner::Hasty if !is_complete(&received) => sleep(Duration::from_mins(1)).await,
                _ => {}
            }
            received.clear();
        }
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

fn is_complete(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0)
}

fn table(clients: &Clients) -> Table {
    Table::new(clients.dynamodb(), "tasks".to_owned())
}

async fn read(table: &Table) {
    let task: TaskKey = "kling/job-1".parse().expect("a key");
    assert!(table.get(&task).await.expect("the table responds").is_none());
}

#[tokio::test]
async fn calls_in_a_row_share_a_connection() {
    let (service, clients) = Service::start(Manner::Patient).await;
    let table = table(&clients);
    for _ in 0..5 {
        read(&table).await;
    }
    assert_eq!((service.requests(), service.connections()), (5, 1));
}

/// The SDK would make four headers about itself and its attempts for each call.
#[tokio::test]
async fn calls_name_reelhook_and_not_the_sdk() {
    let (service, clients) = Service::start(Manner::Patient).await;
    read(&table(&clients)).await;
    let head = service.head.lock().expect("no panic").clone();
    assert!(head.contains("\r\nuser-agent: reelhook/"), "{head}");
    assert!(!head.contains("amz-sdk-") && !head.contains("aws-sdk-rust"), "{head}");
}

/// Services close connections while a function is frozen. The next call must not fail for that, nor be sent twice.
#[tokio::test]
async fn a_connection_that_was_closed_while_idle_is_replaced() {
    let (service, clients) = Service::start(Manner::ClosesIdle).await;
    let table = table(&clients);
    for _ in 0..5 {
        read(&table).await;
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!((service.requests(), service.connections()), (5, 5));
}

#[tokio::test]
async fn a_connection_with_half_a_response_is_not_used_again() {
    let (service, clients) = Service::start(Manner::CutsOnce).await;
    read(&table(&clients)).await;
    assert_eq!((service.requests(), service.connections()), (2, 2));
}

/// Its connection is not done with the request when the response is there, and may never be.
#[tokio::test]
async fn a_connection_that_is_still_sending_is_not_waited_for() {
    let (service, clients) = Service::start(Manner::Hasty).await;
    let s3 = clients.s3();
    for _ in 0..2 {
        let put = s3.put_object().bucket("results").key("video.mp4").body(vec![0; 64 << 20].into()).send();
        timeout(Duration::from_secs(10), put).await.expect("it ends").expect("the service accepts it");
    }
    assert_eq!((service.requests(), service.connections()), (2, 2));
}

#[tokio::test]
async fn no_more_connections_are_opened_than_the_policy_allows() {
    let (service, clients) = Service::start(Manner::Patient).await;
    let table = table(&clients);
    join_all((0..200).map(|_| read(&table))).await;
    assert_eq!(service.requests(), 200);
    assert_eq!(service.most_open.load(Ordering::SeqCst), RetryPolicy::BACKGROUND.connections);
}

#[tokio::test]
async fn the_first_calls_find_connections_that_were_opened_before() {
    let (service, clients) = Service::start(Manner::Patient).await;
    let settings = SettingsStore::new(clients.secrets(), "settings".to_owned());
    clients.connect(&settings).await;
    // Three services, at one address here; and the settings were read.
    assert_eq!((service.requests(), service.connections()), (1, 3));
    read(&table(&clients)).await;
    assert_eq!((service.requests(), service.connections()), (2, 3));
}

/// A function that can reach nothing says so when it is called, not by a start that takes long.
#[tokio::test]
async fn what_cannot_be_reached_does_not_hold_up_the_start() {
    let credentials = Credentials::new("key", "secret", None, None, "test");
    let endpoint = Some("http://127.0.0.1:9");
    let clients = Clients::new(RetryPolicy::CALLBACK, credentials, "us-east-1".to_owned(), endpoint);
    let settings = SettingsStore::new(clients.secrets(), "settings".to_owned());
    let began = std::time::Instant::now();
    clients.connect(&settings).await;
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
}
