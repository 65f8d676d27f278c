//! How a model is served, in the words of Triton's model configuration.

use std::collections::HashMap;

use ev_batching::Settings;
use ev_models_core::{DataType, manifest::HeadName};
use ev_proto::inference::{
    DataType as ProtoType, ModelConfig, ModelDynamicBatching, ModelInput, ModelInstanceGroup, ModelOutput,
    ModelParameter, ModelQueuePolicy, ModelTransactionPolicy, ModelVersionPolicy,
    model_config::SchedulingChoice,
    model_instance_group::Kind,
    model_queue_policy::TimeoutAction,
    model_version_policy::{PolicyChoice, Specific},
};

use super::{
    metadata::{self, dimensions},
    outputs::{self, dimension},
};
use crate::{
    deploy::{Asker, Deployment, Snapshot},
    pipeline::PredictError,
};

pub(super) fn model(
    snapshot: &Snapshot,
    name: &str,
    version: &str,
    batch_rows_max: usize,
) -> Result<ModelConfig, PredictError> {
    let deployment = metadata::deployment(snapshot, name, version, Asker::Server)?;
    let manifest = &deployment.manifest;
    let versions = snapshot.model(name)?.deployments.keys().map(|version| i64::from(*version)).collect();
    let inputs = manifest.inputs.iter().map(|input| ModelInput {
        name: input.name.clone(),
        data_type: data_type(input.dtype).into(),
        dims: dimensions(input),
        optional: !input.required,
    });
    let output = &manifest.outputs[0];
    let outputs = outputs::offered(output).map(|part| ModelOutput {
        name: part.name(output),
        data_type: data_type(part.datatype()).into(),
        dims: vec![dimension(part.width(deployment))],
    });
    let instances = ModelInstanceGroup {
        name: format!("{name}_0"),
        kind: Kind::Cpu.into(),
        count: count(deployment.instance_count()),
    };
    let point = manifest.bodies().find_map(|body| body.head(HeadName::Point));
    Ok(ModelConfig {
        name: name.to_owned(),
        platform: metadata::platform(deployment),
        backend: manifest.model.backend.clone(),
        version_policy: Some(ModelVersionPolicy { policy_choice: Some(PolicyChoice::Specific(Specific { versions })) }),
        max_batch_size: count(deployment.max_batch_rows().min(batch_rows_max)),
        input: inputs.collect(),
        output: outputs.collect(),
        instance_group: vec![instances],
        default_model_filename: point.unwrap_or_default().to_owned(),
        parameters: parameters(deployment),
        scheduling_choice: deployment.queue().map(|queue| dynamic_batching(queue.settings())),
        model_transaction_policy: Some(ModelTransactionPolicy { decoupled: false }),
    })
}

fn dynamic_batching(settings: &Settings) -> SchedulingChoice {
    SchedulingChoice::DynamicBatching(ModelDynamicBatching {
        preferred_batch_size: settings.preferred_batch_sizes.iter().map(|size| count(*size)).collect(),
        max_queue_delay_microseconds: u64::try_from(settings.max_queue_delay.as_micros()).unwrap_or(u64::MAX),
        preserve_ordering: false,
        default_queue_policy: Some(ModelQueuePolicy {
            timeout_action: TimeoutAction::Reject.into(),
            default_timeout_microseconds: 0,
            allow_timeout_override: true,
            max_queue_size: u32::try_from(settings.max_queue_size).unwrap_or(u32::MAX),
        }),
    })
}

fn parameters(deployment: &Deployment) -> HashMap<String, ModelParameter> {
    // A request may have more rows than one run: they are run one batch after the other.
    let rows_of_a_run =
        deployment.queue().map(|queue| ("rows_of_a_run_max", queue.settings().max_batch_size.to_string()));
    [
        ("digest", deployment.digest.clone()),
        ("task", deployment.manifest.model.task.name().to_owned()),
        ("execution", deployment.execution().to_owned()),
        ("row_cost_ns", deployment.row_cost().as_nanos().to_string()),
        ("runtime", deployment.runtime_description()),
    ]
    .into_iter()
    .chain(rows_of_a_run)
    .map(|(name, string_value)| (name.to_owned(), ModelParameter { string_value }))
    .collect()
}

fn count(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

fn data_type(dtype: DataType) -> ProtoType {
    match dtype {
        DataType::Bool => ProtoType::TypeBool,
        DataType::Uint8 => ProtoType::TypeUint8,
        DataType::Int32 => ProtoType::TypeInt32,
        DataType::Int64 => ProtoType::TypeInt64,
        DataType::Fp32 => ProtoType::TypeFp32,
        DataType::Fp64 => ProtoType::TypeFp64,
        DataType::Bytes => ProtoType::TypeString,
    }
}
