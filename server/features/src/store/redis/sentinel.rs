//! Sentinels: which of several servers is the master now.

use std::sync::Arc;

use futures_util::future::select_ok;
use redis::{
    Client, ConnectionAddr, IntoConnectionInfo, RedisResult, TlsCertificates, TlsMode,
    sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType},
};
use tokio::sync::Mutex;

use super::RedisSettings;

/// Those that watch one master, each with a connection that is made when it is asked.
#[derive(Clone)]
pub(super) struct Sentinels(Vec<Arc<Mutex<SentinelClient>>>);

// === impl Sentinels ===

impl Sentinels {
    /// Sentinels at the settings' URLs, which watch the master of this name.
    pub(super) fn new(
        master: &str,
        settings: &RedisSettings,
        certificates: impl Fn() -> TlsCertificates,
    ) -> RedisResult<Sentinels> {
        let sentinel = |url: &String| {
            let info = url.as_str().into_connection_info()?;
            let (address, server) = (info.addr().clone(), info.redis_settings());
            let is_tls = matches!(address, ConnectionAddr::TcpTls { .. });
            let mut builder = SentinelClientBuilder::new([address], master, SentinelServerType::Master)?
                .set_client_to_redis_db(server.db());
            if let Some(username) = server.username() {
                builder = builder.set_client_to_redis_username(username);
            }
            if let Some(password) = server.password() {
                builder = builder.set_client_to_redis_password(password);
            }
            if is_tls {
                builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
            }
            if is_tls && settings.tls_root_certificates.is_some() {
                builder = builder
                    .set_client_to_redis_certificates(certificates())
                    .set_client_to_sentinel_certificates(certificates());
            }
            Ok(Arc::new(Mutex::new(builder.build()?)))
        };
        settings.urls.iter().map(sentinel).collect::<RedisResult<_>>().map(Sentinels)
    }

    /// The master, as the first of them says that names one which says so itself: one that hangs holds up nobody.
    pub(super) async fn master(&self) -> RedisResult<Client> {
        let asked = self
            .0
            .iter()
            .cloned()
            .map(|sentinel| Box::pin(async move { sentinel.lock_owned().await.async_get_client().await }));
        select_ok(asked).await.map(|(client, _)| client)
    }
}
