//! What is done with readings: stored, judged, made features of, and told.

use std::{sync::Arc, time::Duration};

use ev_alerts::{
    Alerts,
    webhook::{Roots, Webhook, WebhookConfig},
};
use ev_domain::Catalogue;
use ev_telemetry::Apply;

use super::StartError;
use crate::{
    Config,
    features::{Past, VehicleFeatures},
    journal::{self, AlertJournal},
    lane::{Lane, Remembering},
    renewal::Renewal,
    telemetry::{Telemetry, now_us},
};

/// How often the thermal risk of a pack is assessed anew at most.
const ASSESS_EVERY: Duration = Duration::from_secs(1);

/// What runs on telemetry's threads; of a start that fails later the last goes first.
pub(super) struct Vehicles {
    pub(super) journal: journal::Running,
    pub(super) telemetry: Telemetry,
    pub(super) renewal: Arc<Renewal>,
    pub(super) lane: Arc<Lane>,
    pub(super) alerts: Arc<Alerts>,
}

// === impl Vehicles ===

impl Vehicles {
    /// Starts what takes readings in. Nobody can send any yet.
    pub(super) async fn start(
        config: &Config,
        catalogue: Arc<Catalogue>,
        features: &Arc<VehicleFeatures>,
    ) -> Result<Vehicles, StartError> {
        let directory = config.data.directory.join("telemetry");
        let alerts = Arc::new(Alerts::new(config.alerts.life.clone(), fastrand::u64(..)));
        let lane = Arc::new(Lane::new(&config.alerts, Arc::clone(&alerts))?);
        let renewal = Arc::new(Renewal::new(ASSESS_EVERY, config.predictions.renew_interval));
        // The rule waits for no store; what is predicted anew finds what its readings changed.
        let apply: Vec<Arc<dyn Apply>> =
            vec![Arc::clone(&lane) as _, Arc::clone(features) as _, Arc::clone(&renewal) as _];
        let telemetry = Telemetry::start(&config.telemetry, directory, catalogue, apply).await?;
        let (replayed, stored) = (Arc::clone(features), Arc::clone(telemetry.ingestor.store()));
        let remembering = Remembering::new(Arc::clone(&lane));
        telemetry.handle().spawn(async move {
            replayed.replay(&Past { store: &*stored, beside: &remembering }).await;
        });
        Lane::keep_current(Arc::clone(&alerts), &telemetry.handle());
        Lane::log(alerts.subscribe(), &telemetry.handle());
        let journal = AlertJournal::open(&config.data.directory.join("alerts"), &config.alerts.webhooks)?;
        for webhook in &config.alerts.webhooks {
            let (owed, settler) = (journal.owed(webhook), journal.settler(webhook));
            let roots = roots(webhook)?;
            let webhook = Webhook::new(webhook.clone(), roots, Arc::new(|| now_us() / 1_000_000), fastrand::u64(..))?;
            telemetry.handle().spawn(webhook.telling(settler).owing(owed).run(alerts.subscribe()));
        }
        let journal = journal.start(&alerts, now_us());
        Ok(Vehicles { journal, telemetry, renewal, lane, alerts })
    }
}

/// The authorities that a webhook's receiver is known by.
fn roots(webhook: &WebhookConfig) -> Result<Roots, StartError> {
    let path = &webhook.ca_certificates;
    if !webhook.is_https() {
        return Ok(Roots::none());
    }
    if path.as_os_str().is_empty() {
        let system = rustls_native_certs::load_native_certs();
        let roots = Roots::of(system.certs.into_iter().map(|certificate| certificate.to_vec()));
        if roots.is_empty() {
            tracing::warn!(
                "the system has no certificates of authorities: no webhook is reached over https unless `ca_certificates` says by whom it is known"
            );
        }
        return Ok(roots);
    }
    let pem = fs_err::read(path);
    let pem = pem.map_err(|source| StartError::WebhookCertificates { path: path.clone(), source })?;
    Ok(Roots::from_pem(&pem)?)
}
