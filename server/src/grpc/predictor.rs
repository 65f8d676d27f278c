//! What every prediction service shares: routing, running, and the envelope of an answer.

use std::{pin::Pin, sync::Arc, time::Instant};

use ev_alerts::Alerts;
use ev_batching::Cut;
use ev_models_core::{RunError, manifest::Task};
use ev_proto::ev::common::v1::{
    BatchCut, BatchInfo as ProtoBatch, ModelSelector, ModelVersion, OutOfDistributionField,
    OutOfDistributionReason as ProtoReason, PredictionInfo, PredictionStatus, Timings as ProtoTimings, model_selector,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{call::Call, renewed::Renewals, stream::Answer};
use crate::{
    deploy::{Asker, Deployment, Queue, Routes, VersionChoice},
    features::VehicleFeatures,
    pipeline::{
        BadRow, Batch, BatchInfo, Features, OutOfDistributionReason, Outcome, Picture, PredictError, PredictionIds,
        QueuedRow, RowBuilder, Timings, Want, predict_batch, predict_pictures, predict_row, predict_together,
        submit_picture, submit_row,
    },
};

/// Predicts for the services; one a process, shared.
pub(crate) struct Predictor {
    pub(crate) routes: Arc<Routes>,
    pub(crate) ids: PredictionIds,
    /// Cancelled when the server begins to drain.
    pub(crate) draining: CancellationToken,
    pub(crate) batch_rows_max: usize,
    /// What `ThermalRisk` tells beside its assessments.
    pub(crate) alerts: Arc<Alerts>,
    /// What is known of vehicles.
    pub(crate) features: Arc<VehicleFeatures>,
    /// Predictions that are kept current.
    pub(crate) renewals: Renewals,
}

/// What comes of a row.
pub(super) enum Reply<A> {
    /// It was run inline.
    Answered(A),
    /// It was refused.
    Refused(PredictError),
    /// It is in its model's queue. Dropping the future gives up its place.
    Queued(QueuedReply<A>),
}

/// Rows of a batch by the deployment that answers them, and the refusals of those that have none.
pub(super) struct Grouped<A> {
    pub(super) results: Vec<Option<Result<A, PredictError>>>,
    pub(super) groups: Vec<(Arc<Deployment>, Vec<usize>)>,
}

/// What comes of the rows of a batch, in order, or of the batch as a whole.
pub(super) type Results<A> = Result<Vec<Result<A, PredictError>>, PredictError>;

/// An answer that workers make.
pub(super) type QueuedReply<A> = Pin<Box<dyn Future<Output = Result<A, PredictError>> + Send>>;

// === impl Reply ===

impl<A> Reply<A> {
    /// Waits for the answer, where it is not there.
    #[inline]
    pub(super) async fn done(self) -> Result<A, PredictError> {
        match self {
            Reply::Answered(answer) => Ok(answer),
            Reply::Refused(error) => Err(error),
            Reply::Queued(later) => later.await,
        }
    }

    /// As a stream takes it: `message` makes its message of the answer or the refusal.
    #[inline]
    pub(super) fn in_stream<M>(self, message: impl FnOnce(Result<A, PredictError>) -> M + Send + 'static) -> Answer<M>
    where
        A: 'static,
    {
        match self {
            Reply::Answered(answer) => Answer::Now(message(Ok(answer))),
            Reply::Refused(error) => Answer::Now(message(Err(error))),
            Reply::Queued(later) => Answer::Queued(Box::pin(async move { message(later.await) })),
        }
    }
}

// === impl Predictor ===

impl Predictor {
    /// Predicts one row and makes an answer of the outcome: at once, or after its turn in the model's queue.
    #[inline]
    pub(super) fn row<Q: Features, A>(
        self: &Arc<Self>,
        task: Task,
        selector: Option<&ModelSelector>,
        request: &Q,
        call: Call,
        answer: impl FnOnce(&Predictor, &Deployment, Outcome) -> A + Send + 'static,
    ) -> Reply<A> {
        let snapshot = self.routes.load();
        let (name, choice) = selected(selector);
        let deployment = match snapshot.route(task, name, choice, call.asker("")) {
            Ok(deployment) => deployment,
            Err(error) => return Reply::Refused(error),
        };
        let fill = |row: &mut RowBuilder<'_>| request.visit(|feature, value| row.feature(feature, value));
        if let Some(queue) = deployment.queue() {
            return self.queued_row(
                deployment,
                queue,
                Want::Estimate,
                call.deadline,
                fill,
                |predictor, deployment, outcome| outcome.map(|outcome| answer(predictor, deployment, outcome)),
            );
        }
        match predict_row(deployment, Want::Estimate, fill) {
            Ok(outcome) => Reply::Answered(answer(self, deployment, outcome)),
            Err(error) => Reply::Refused(error),
        }
    }

    /// Predicts rows that came together as one batch, and gives their answers in order. Says no, and does nothing, where
    /// they are not for one version of a model that runs inline.
    #[inline]
    pub(super) fn together<'r, Q: Features + 'r, A>(
        &self,
        task: Task,
        rows: usize,
        row: impl Fn(usize) -> &'r Q,
        selector: impl Fn(&Q) -> Option<&ModelSelector>,
        answer: impl Fn(&Deployment, Outcome) -> A,
        mut answered: impl FnMut(Result<A, PredictError>),
    ) -> bool {
        let of_all = selector(row(0));
        if (1..rows).any(|index| selector(row(index)) != of_all) {
            return false;
        }
        let snapshot = self.routes.load();
        let (name, choice) = selected(of_all);
        let Ok(model) = snapshot.find(task, name) else { return false };
        if model.is_split() {
            return false;
        }
        let Ok(deployment) = model.answering(task, choice, Asker::Server) else { return false };
        if deployment.queue().is_some() {
            return false;
        }
        let fill = |index: usize, builder: &mut RowBuilder<'_>| {
            row(index).visit(|feature, value| builder.feature(feature, value));
        };
        predict_together(deployment, rows, fill, |outcome| {
            answered(outcome.map(|outcome| answer(deployment, outcome)));
        });
        true
    }

    /// Assembles a row and submits it to its model's queue.
    #[cold]
    pub(super) fn queued_row<A>(
        self: &Arc<Self>,
        deployment: &Arc<Deployment>,
        queue: &Queue,
        want: Want,
        deadline: Option<Instant>,
        fill: impl FnOnce(&mut RowBuilder<'_>),
        answer: impl FnOnce(&Predictor, &Deployment, Result<Outcome, PredictError>) -> Result<A, PredictError>
        + Send
        + 'static,
    ) -> Reply<A> {
        self.submitted(deployment, submit_row(deployment, queue, want, deadline, fill), answer)
    }

    /// Submits a picture to its model's queue.
    #[cold]
    pub(super) fn queued_picture<A>(
        self: &Arc<Self>,
        deployment: &Arc<Deployment>,
        want: Want,
        deadline: Option<Instant>,
        picture: Picture,
        answer: impl FnOnce(&Predictor, &Deployment, Result<Outcome, PredictError>) -> Result<A, PredictError>
        + Send
        + 'static,
    ) -> Reply<A> {
        let submitted = match deployment.picture_queue() {
            Some(queue) => submit_picture(deployment, queue, want, deadline, picture),
            None => Err(no_pictures(deployment)),
        };
        self.submitted(deployment, submitted, answer)
    }

    pub(super) fn submitted<A>(
        self: &Arc<Self>,
        deployment: &Arc<Deployment>,
        submitted: Result<QueuedRow, PredictError>,
        answer: impl FnOnce(&Predictor, &Deployment, Result<Outcome, PredictError>) -> Result<A, PredictError>
        + Send
        + 'static,
    ) -> Reply<A> {
        match submitted {
            Ok(row) => {
                let (predictor, deployment) = (Arc::clone(self), Arc::clone(deployment));
                Reply::Queued(Box::pin(async move { answer(&predictor, &deployment, row.outcome().await) }))
            }
            Err(error) => match answer(self, deployment, Err(error)) {
                Ok(answer) => Reply::Answered(answer),
                Err(error) => Reply::Refused(error),
            },
        }
    }

    /// Predicts one picture and makes an answer of the outcome.
    pub(super) fn picture<A>(
        self: &Arc<Self>,
        task: Task,
        selector: Option<&ModelSelector>,
        picture: Picture,
        call: Call,
        answer: impl FnOnce(&Predictor, &Deployment, Outcome) -> A + Send + 'static,
    ) -> Reply<A> {
        let snapshot = self.routes.load();
        let (name, choice) = selected(selector);
        match snapshot.route(task, name, choice, call.asker("")) {
            Ok(deployment) => {
                let answer =
                    |predictor: &Predictor, deployment: &Deployment, outcome: Result<Outcome, PredictError>| {
                        outcome.map(|outcome| answer(predictor, deployment, outcome))
                    };
                self.queued_picture(deployment, Want::Estimate, call.deadline, picture, answer)
            }
            Err(error) => Reply::Refused(error),
        }
    }

    /// Predicts many pictures, each with its own result in order; those of one deployment run together.
    pub(super) async fn pictures<Q, A>(
        &self,
        task: Task,
        requests: &[Q],
        selector: impl Fn(&Q) -> Option<&ModelSelector>,
        picture: impl Fn(&Q) -> Result<Picture, PredictError>,
        call: Call,
        answer: impl Fn(&Q, &Deployment, Outcome) -> A,
    ) -> Results<A> {
        let Grouped { mut results, groups } = self.group(task, requests, selector, |_| call.asker(""))?;
        for (deployment, members) in groups {
            let queue = deployment.picture_queue().ok_or_else(|| no_pictures(&deployment))?;
            let (mut of_rows, mut rows) = (Vec::with_capacity(members.len()), Vec::with_capacity(members.len()));
            for index in members {
                match picture(&requests[index]) {
                    Ok(picture) => {
                        of_rows.push(picture);
                        rows.push(index);
                    }
                    Err(error) => results[index] = Some(Err(error)),
                }
            }
            if rows.is_empty() {
                continue;
            }
            let batch = Batch {
                rows: rows.len(),
                deadline: call.deadline,
                want: Want::Estimate,
                bad_row: BadRow::FailsAlone,
                draw: None,
            };
            let outcomes = predict_pictures(&deployment, queue, batch, &of_rows).await?;
            for (index, outcome) in rows.into_iter().zip(outcomes) {
                results[index] = Some(outcome.map(|outcome| answer(&requests[index], &deployment, outcome)));
            }
        }
        Ok(in_order(results))
    }

    /// Predicts many rows, each with its own result in order; rows of one deployment run together.
    pub(super) async fn rows<Q: Features, A>(
        &self,
        task: Task,
        requests: &[Q],
        selector: impl Fn(&Q) -> Option<&ModelSelector>,
        call: Call,
        answer: impl Fn(&Deployment, Outcome) -> A,
    ) -> Results<A> {
        let Grouped { mut results, groups } = self.group(task, requests, selector, |_| call.asker(""))?;
        for (deployment, members) in groups {
            let batch = Batch {
                rows: members.len(),
                deadline: call.deadline,
                want: Want::Estimate,
                bad_row: BadRow::FailsAlone,
                draw: None,
            };
            let outcomes = predict_batch(&deployment, batch, |row, builder| {
                requests[members[row]].visit(|feature, value| builder.feature(feature, value));
            })
            .await?;
            for (index, outcome) in members.into_iter().zip(outcomes) {
                results[index] = Some(outcome.map(|outcome| answer(&deployment, outcome)));
            }
        }
        Ok(in_order(results))
    }

    /// Which deployment answers which row.
    #[inline]
    pub(super) fn group<'a, Q, A>(
        &self,
        task: Task,
        requests: &[Q],
        selector: impl Fn(&Q) -> Option<&ModelSelector>,
        asker: impl Fn(usize) -> Asker<'a>,
    ) -> Result<Grouped<A>, PredictError> {
        if requests.is_empty() {
            return Err(PredictError::EmptyBatch);
        }
        if requests.len() > self.batch_rows_max {
            return Err(PredictError::TooManyRows { rows: requests.len(), max: self.batch_rows_max });
        }
        let mut results: Vec<Option<Result<A, PredictError>>> = requests.iter().map(|_| None).collect();
        let mut groups: Vec<(Arc<Deployment>, Vec<usize>)> = Vec::new();
        let snapshot = self.routes.load();
        for (index, request) in requests.iter().enumerate() {
            let (name, choice) = selected(selector(request));
            match snapshot.route(task, name, choice, asker(index)) {
                Err(error) => results[index] = Some(Err(error)),
                Ok(deployment) => match groups.iter_mut().find(|(known, _)| Arc::ptr_eq(known, deployment)) {
                    Some((_, members)) => members.push(index),
                    None => groups.push((Arc::clone(deployment), vec![index])),
                },
            }
        }
        Ok(Grouped { results, groups })
    }

    /// The envelope of an answer.
    #[inline]
    pub(super) fn info(&self, deployment: &Deployment, outcome: &Outcome) -> PredictionInfo {
        let id = self.ids.of(outcome.taken, outcome.draw);
        if outcome.inputs.is_some() {
            self.show(deployment, id, outcome);
        }
        let outside = !outcome.out_of_distribution.is_empty();
        let status = if outside { PredictionStatus::OutOfDistribution } else { PredictionStatus::Ok };
        PredictionInfo {
            model: Some(ModelVersion {
                name: deployment.model().to_owned(),
                version: deployment.version,
                digest: deployment.digest.clone(),
            }),
            prediction_id: PredictionIds::text(id),
            status: status.into(),
            out_of_distribution: if outside { fields(deployment, outcome) } else { Vec::new() },
            feature_coverage: outcome.coverage,
            timings: Some(timings(&outcome.timings)),
            batch: outcome.batch.map(batch),
            features: Vec::new(),
            degraded: false,
        }
    }
}

impl Predictor {
    /// Shows a prediction to whoever listens to its deployment.
    #[cold]
    pub(super) fn show(&self, deployment: &Deployment, id: Uuid, outcome: &Outcome) {
        deployment.tap().show(deployment.served(), id, self.ids.unix_ms(outcome.taken), outcome);
    }
}

/// Every row was answered or refused.
#[inline]
pub(super) fn in_order<A>(results: Vec<Option<Result<A, PredictError>>>) -> Vec<Result<A, PredictError>> {
    results.into_iter().map(|result| result.unwrap_or(Err(PredictError::Panicked))).collect()
}

/// A bug: a model of pictures has both, which loading it sees to.
#[cold]
fn no_pictures(deployment: &Deployment) -> PredictError {
    let reason = format!("model `{}` takes no pictures", deployment.model());
    PredictError::Backend(RunError::Engine { backend: "images", reason })
}

#[inline]
pub(super) fn selected(selector: Option<&ModelSelector>) -> (&str, Option<VersionChoice<'_>>) {
    let Some(ModelSelector { name, version_choice }) = selector else { return ("", None) };
    let choice = version_choice.as_ref().map(|choice| match choice {
        model_selector::VersionChoice::Version(version) => VersionChoice::Number(*version),
        model_selector::VersionChoice::Alias(alias) => VersionChoice::Alias(alias),
    });
    (name, choice)
}

#[cold]
fn fields(deployment: &Deployment, outcome: &Outcome) -> Vec<OutOfDistributionField> {
    let field = |outside: &crate::pipeline::OutOfDistribution| {
        let input = deployment.plan().inputs.get(outside.input);
        let reason = match outside.reason {
            OutOfDistributionReason::UnknownCategory => ProtoReason::UnknownCategory,
            OutOfDistributionReason::OutsideTrainedRange => ProtoReason::OutsideTrainedRange,
            OutOfDistributionReason::NoVariant => ProtoReason::NoVariant,
            OutOfDistributionReason::NoLikelyClass => ProtoReason::NoLikelyClass,
        };
        OutOfDistributionField {
            field: input.map_or_else(String::new, |input| input.name.clone()),
            reason: reason.into(),
            value: outside.value.clone(),
            trained_on: input.map_or_else(String::new, |input| input.trained_on.clone()),
        }
    };
    outcome.out_of_distribution.iter().map(field).collect()
}

#[cold]
fn batch(batch: BatchInfo) -> ProtoBatch {
    let BatchInfo { rows, cut } = batch;
    let cut = match cut {
        Cut::Full => BatchCut::Full,
        Cut::Preferred => BatchCut::Preferred,
        Cut::Delay => BatchCut::Delay,
        Cut::Deadline => BatchCut::Deadline,
        Cut::Idle => BatchCut::Idle,
    };
    ProtoBatch { rows: u32::try_from(rows).unwrap_or(u32::MAX), cut: cut.into() }
}

fn timings(timings: &Timings) -> ProtoTimings {
    let ns = |duration: std::time::Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    ProtoTimings {
        queue_ns: ns(timings.queue),
        features_ns: ns(timings.features),
        inference_ns: ns(timings.inference),
        total_ns: ns(timings.total),
    }
}
