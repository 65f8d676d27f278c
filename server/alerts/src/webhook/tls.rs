//! Connections to receivers, over TLS where their URL says so.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Uri, uri::Scheme};
use hyper_util::{
    client::legacy::connect::{Connected, Connection, HttpConnector},
    rt::TokioIo,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tower_service::Service;

use crate::ConfigError;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Certificates of authorities that receivers' certificates are checked against.
#[derive(Debug, Clone)]
pub struct Roots(RootCertStore);

/// Connects to a receiver.
#[derive(Clone)]
pub(super) struct Connector {
    http: HttpConnector,
    tls: TlsConnector,
}

/// A connection to a receiver.
pub(super) enum Link {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

// === impl Roots ===

impl Roots {
    /// None: only `http://` receivers are reached.
    #[must_use]
    pub fn none() -> Roots {
        Roots(RootCertStore::empty())
    }

    /// Of certificates in DER, such as the system's; those that cannot be read are left out.
    #[must_use]
    pub fn of(certificates: impl IntoIterator<Item = Vec<u8>>) -> Roots {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates.into_iter().map(CertificateDer::from));
        Roots(roots)
    }

    /// Of a PEM file's text.
    ///
    /// # Errors
    ///
    /// When there is no certificate in it, or one that cannot be read.
    pub fn from_pem(pem: &[u8]) -> Result<Roots, ConfigError> {
        let refused = |found: String| ConfigError::new("webhooks.ca_certificates", found, "certificates in PEM");
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let added = certificate
                .map_err(|error| error.to_string())
                .and_then(|certificate| roots.add(certificate).map_err(|error| error.to_string()));
            added.map_err(refused)?;
        }
        if roots.is_empty() { Err(refused("a file without any".to_owned())) } else { Ok(Roots(roots)) }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

// === impl Connector ===

impl Connector {
    pub(super) fn new(roots: Roots, timeout: Duration) -> Connector {
        let mut http = HttpConnector::new();
        http.set_connect_timeout(Some(timeout));
        http.set_nodelay(true);
        http.enforce_http(false);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has ciphers of the default versions")
            .with_root_certificates(roots.0)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Connector { http, tls: TlsConnector::from(Arc::new(config)) }
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Link>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<TokioIo<Link>, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.http.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let tls = (uri.scheme() == Some(&Scheme::HTTPS)).then(|| self.tls.clone());
        let connecting = self.http.call(uri.clone());
        Box::pin(async move {
            let stream = connecting.await?.into_inner();
            let Some(tls) = tls else { return Ok(TokioIo::new(Link::Plain(stream))) };
            // An IPv6 address stands in brackets in a URL, and without in a certificate.
            let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
            let stream = tls.connect(ServerName::try_from(host.to_owned())?, stream).await?;
            Ok(TokioIo::new(Link::Tls(Box::new(stream))))
        })
    }
}

// === impl Link ===

impl Connection for Link {
    fn connected(&self) -> Connected {
        match self {
            Link::Plain(stream) => stream.connected(),
            Link::Tls(stream) => stream.get_ref().0.connected(),
        }
    }
}

impl AsyncRead for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Link::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Link::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Link {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Link::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Link::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Link::Plain(stream) => Pin::new(stream).poll_flush(context),
            Link::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Link::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Link::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_refused() {
        let check = |pem: &str, expected: &str| {
            let error = Roots::from_pem(pem.as_bytes()).expect_err(expected).to_string();
            assert!(error.contains(expected) && error.contains("`webhooks.ca_certificates`"), "{error}");
        };
        check("", "a file without any");
        check("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "expected certificates in PEM");
        assert!(Roots::none().is_empty());
        assert_eq!(Roots::of([b"not a certificate".to_vec()]).len(), 0);
    }
}
