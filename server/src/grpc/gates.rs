//! Promotion gates and signatures of `ev.registry.v1.ModelRegistry`.

use std::sync::Arc;

use ev_gates::{Gate, State};
use ev_proto::ev::registry::v1::{
    GateResult, GateState, GetGatesResponse, SignVersionRequest, SignVersionResponse, SignatureState, VersionSignature,
    WaiveGateRequest, WaiveGateResponse, Waiver,
};
use ev_registry::{Registry, VersionChoice, VersionRecord};
use ev_signing::{PublicKey, Signature};
use tonic::Status;

use super::{registry::now_ms, status};
use crate::{
    deploy::{Signatures, Signed},
    gates::{Gatekeeper, Judged},
};

/// What these calls need. Cheap to clone.
#[derive(Clone)]
pub(crate) struct GateService {
    pub(crate) gatekeeper: Arc<Gatekeeper>,
    pub(crate) signatures: Signatures,
}

// === impl GateService ===

impl GateService {
    /// Judges a version that was registered just now. The registration stands whatever comes of it.
    pub(super) async fn judge(&self, record: &VersionRecord) -> Vec<GateResult> {
        match self.gatekeeper.judged(record).await {
            Ok(judged) => judged_to_proto(&judged),
            Err(error) => {
                let (model, version) = (&record.model, record.version);
                tracing::error!(model, version, error = &error as &dyn std::error::Error, "gates were not judged");
                Vec::new()
            }
        }
    }

    /// Refuses a version that may not be in production.
    pub(super) async fn admit(&self, record: &VersionRecord) -> Result<(), Status> {
        self.gatekeeper.admit(record).await.map_err(status::of_gates)
    }

    /// What is known of a version without judging it: how it was judged last, what is waived, who signed it.
    pub(super) async fn known(
        &self,
        registry: &Registry,
        record: &VersionRecord,
    ) -> Result<(Vec<GateResult>, Vec<Waiver>, Vec<VersionSignature>), Status> {
        let read = async || {
            let judged = self.gatekeeper.stored(record).await?;
            Ok((judged, registry.waivers(record).await?, registry.signatures(record).await?))
        };
        let known: Result<_, ev_registry::RegistryError> = read().await;
        let (judged, waivers, signatures) = known.map_err(|error| status::of_registry(&error))?;
        let waiver = |ev_registry::Waiver { gate, reason, actor, at_ms }| Waiver {
            gate,
            reason,
            waived_by: actor,
            waived_at: Some(timestamp(at_ms)),
        };
        Ok((
            judged.map(|judged| judged_to_proto(&judged)).unwrap_or_default(),
            waivers.into_iter().map(waiver).collect(),
            signatures.iter().map(|signature| self.signature(record, signature)).collect(),
        ))
    }

    pub(super) async fn get(
        &self,
        registry: &Registry,
        record: &VersionRecord,
        judge_again: bool,
    ) -> Result<GetGatesResponse, Status> {
        let judged = match judge_again {
            true => self.gatekeeper.judge(record).await,
            false => self.gatekeeper.judged(record).await,
        };
        let judged = judged.map_err(|error| status::of_registry(&error))?;
        let signatures = registry.signatures(record).await.map_err(|error| status::of_registry(&error))?;
        Ok(GetGatesResponse {
            model: record.model.clone(),
            version: record.version,
            digest: record.digest.to_string(),
            passed: judged.results.iter().all(|result| result.state != State::Failed),
            gates: judged_to_proto(&judged),
            judged_at: Some(timestamp(judged.at_ms)),
            signatures: signatures.iter().map(|signature| self.signature(record, signature)).collect(),
        })
    }

    /// `registry` says on whose behalf.
    pub(super) async fn waive(
        &self,
        registry: &Registry,
        request: WaiveGateRequest,
    ) -> Result<WaiveGateResponse, Status> {
        let WaiveGateRequest { model, version, gate, reason } = request;
        let gate: Gate = gate
            .parse()
            .map_err(|error: ev_gates::UnknownGate| status::invalid("gate", "UNKNOWN_GATE", error.to_string()))?;
        if !gate.can_be_waived() {
            let description = format!("is `{gate}`, which cannot be waived: a version that fails it does not serve");
            return Err(status::invalid("gate", "NOT_WAIVABLE", description));
        }
        let length = reason.trim().len();
        if !(1..=ev_registry::Waiver::REASON_MAX_BYTES).contains(&length) {
            let max = ev_registry::Waiver::REASON_MAX_BYTES;
            let description = format!("has {length} bytes, expected 1 to {max}: why this is accepted");
            return Err(status::invalid("reason", "WRONG_LENGTH", description));
        }
        let choice = VersionChoice::Number(version);
        let record = registry.get(&model, &choice).await.map_err(|error| status::of_registry(&error))?;
        let waived = registry.waive(&record, gate.name(), &reason, now_ms()).await;
        waived.map_err(|error| status::of_registry(&error))?;
        let judged = self.gatekeeper.stored(&record).await.map_err(|error| status::of_registry(&error))?;
        let gates = judged.map(|judged| judged_to_proto(&judged)).unwrap_or_default();
        Ok(WaiveGateResponse { gate: gates.into_iter().find(|result| result.gate == gate.name()) })
    }

    /// `registry` says on whose behalf.
    pub(super) async fn sign(
        &self,
        registry: &Registry,
        request: SignVersionRequest,
    ) -> Result<SignVersionResponse, Status> {
        let SignVersionRequest { model, version, public_key, signature } = request;
        let bad = |field: &str, error: &dyn std::fmt::Display| status::invalid(field, "MALFORMED", format!("{error}"));
        let key = PublicKey::of_bytes(&public_key).map_err(|error| bad("public_key", &error))?;
        let parsed = Signature::of_bytes(&signature).map_err(|error| bad("signature", &error))?;
        let choice = VersionChoice::Number(version);
        let record = registry.get(&model, &choice).await.map_err(|error| status::of_registry(&error))?;
        if !key.verify(&record.model, &record.digest, &parsed) {
            let description = format!("is not one that {} has made of version {version} of model `{model}`", key.id());
            return Err(status::invalid("signature", "BAD_SIGNATURE", description));
        }
        let (actor, at_ms) = (String::new(), now_ms());
        registry
            .add_signature(&record, &public_key, &signature, at_ms)
            .await
            .map_err(|error| status::of_registry(&error))?;
        let stored = registry.signatures(&record).await.map_err(|error| status::of_registry(&error))?;
        let stored = stored.into_iter().find(|stored| stored.public_key == public_key);
        let stored = stored.unwrap_or(ev_registry::VersionSignature { public_key, signature, actor, at_ms });
        Ok(SignVersionResponse { signature: Some(self.signature(&record, &stored)) })
    }

    fn signature(&self, record: &VersionRecord, signature: &ev_registry::VersionSignature) -> VersionSignature {
        let of = self.signatures.of(&record.model, &record.digest, std::slice::from_ref(signature));
        let state = match of {
            Signed::By(_) => SignatureState::Trusted,
            Signed::UnknownKey(_) => SignatureState::UnknownKey,
            // A bundled version shows no signature by a trusted key, or none that can be read as one.
            Signed::Bad(_) | Signed::Bundled | Signed::Unsigned => SignatureState::Bad,
        };
        let ev_registry::VersionSignature { public_key, signature, actor, at_ms } = signature.clone();
        VersionSignature {
            key_id: PublicKey::of_bytes(&public_key).map(|key| key.id().to_string()).unwrap_or_default(),
            public_key,
            signature,
            state: state.into(),
            signed_by: actor,
            signed_at: Some(timestamp(at_ms)),
        }
    }
}

fn judged_to_proto(judged: &Judged) -> Vec<GateResult> {
    let of = |result: &ev_gates::GateResult| {
        let ev_gates::GateResult { gate, state, measured, required, remedy, waiver } = result.clone();
        let waived_by = judged.waivers.iter().find(|known| state == State::Waived && known.gate == gate.name());
        GateResult {
            gate: gate.name().to_owned(),
            state: match state {
                State::Passed => GateState::Passed,
                State::Failed => GateState::Failed,
                State::Waived => GateState::Waived,
                State::NotApplicable => GateState::NotApplicable,
            }
            .into(),
            measured,
            required,
            remedy,
            waiver_reason: waiver,
            waived_by: waived_by.map(|waiver| waiver.actor.clone()).unwrap_or_default(),
        }
    };
    judged.results.iter().map(of).collect()
}

fn timestamp(at_ms: i64) -> prost_types::Timestamp {
    let nanos = i32::try_from(at_ms.rem_euclid(1000) * 1_000_000).unwrap_or(0);
    prost_types::Timestamp { seconds: at_ms.div_euclid(1000), nanos }
}
