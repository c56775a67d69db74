//! TLS in front of an AWS that speaks plain HTTP: TLS 1.3, a chain of three certificates from a root of its own, and one address
//! per service, as AWS has it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::Error;
use crate::world::SERVICES;

/// The roots of AWS, which the deployed functions read at their start. They are in the file of roots here too, so that reading
/// them counts.
const AMAZON_ROOTS: &str = include_str!("../../../functions/aws/src/amazon-roots.pem");

/// Ports with TLS in front of one address. Dropping it closes them.
pub(crate) struct TlsFront {
    /// `https://localhost:PORT`, one per service.
    pub(crate) endpoints: Vec<String>,
    /// A file with the roots that clients have to trust.
    pub(crate) roots: PathBuf,
    handshakes: Arc<AtomicU64>,
    servers: Vec<JoinHandle<()>>,
}

impl TlsFront {
    /// Opens a port for each service, and writes the roots into a directory.
    pub(crate) async fn start(target: SocketAddr, directory: &Path) -> Result<Self, Error> {
        let (config, root) = certified()?;
        let roots = directory.join("roots.pem");
        std::fs::write(&roots, format!("{AMAZON_ROOTS}{root}"))?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let handshakes = Arc::<AtomicU64>::default();
        let (mut endpoints, mut servers) = (vec![], vec![]);
        for _ in SERVICES {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            endpoints.push(format!("https://localhost:{}", listener.local_addr()?.port()));
            servers.push(tokio::spawn(serve(listener, acceptor.clone(), target, Arc::clone(&handshakes))));
        }
        Ok(Self { endpoints, roots, handshakes, servers })
    }

    /// What points each service's client here.
    pub(crate) fn endpoint_variables(&self) -> impl Iterator<Item = (String, String)> {
        let named = SERVICES.iter().zip(&self.endpoints);
        named.map(|(service, endpoint)| (format!("AWS_ENDPOINT_URL_{service}"), endpoint.clone()))
    }

    /// Handshakes until now.
    pub(crate) fn handshakes(&self) -> u64 {
        self.handshakes.load(Ordering::Relaxed)
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.servers.iter().for_each(JoinHandle::abort);
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, target: SocketAddr, handshakes: Arc<AtomicU64>) {
    while let Ok((client, _)) = listener.accept().await {
        let (acceptor, handshakes) = (acceptor.clone(), Arc::clone(&handshakes));
        // What fails here fails for the client, which says so.
        tokio::spawn(async move {
            client.set_nodelay(true)?;
            let mut client = acceptor.accept(client).await?;
            handshakes.fetch_add(1, Ordering::Relaxed);
            let mut server = TcpStream::connect(target).await?;
            server.set_nodelay(true)?;
            copy_bidirectional(&mut client, &mut server).await
        });
    }
}

/// A server's configuration and its root as PEM.
fn certified() -> Result<(ServerConfig, String), Error> {
    let authority = |name: &str| -> Result<CertificateParams, Error> {
        let mut parameters = CertificateParams::new(vec![])?;
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Ok(parameters)
    };
    let root_key = KeyPair::generate()?;
    let root = authority("root")?;
    let root_certificate = root.self_signed(&root_key)?;
    let root_issuer = Issuer::new(root, root_key);
    let intermediate_key = KeyPair::generate()?;
    let intermediate = authority("intermediate")?;
    let intermediate_certificate = intermediate.signed_by(&intermediate_key, &root_issuer)?;
    let intermediate_issuer = Issuer::new(intermediate, intermediate_key);
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec!["localhost".to_owned()])?.signed_by(&key, &intermediate_issuer)?;
    let chain = vec![certificate.der().clone(), intermediate_certificate.der().clone()];
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, PrivatePkcs8KeyDer::from(key.serialize_der()).into())?;
    Ok((config, root_certificate.pem()))
}
