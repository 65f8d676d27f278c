//! What telemetry says, as protobuf.

use ev_domain::{Catalogue, Readings, SignalId, VehicleId};
use ev_proto::ev::telemetry::v1::{
    Gaps, Reject as ProtoReject, RejectReason as ProtoReason, Rejected, RequestFullState, SequenceRange as ProtoRange,
    SignalColumn, SourceGaps, stream_response::Message,
};
use ev_telemetry::{Quarantined, Reject, RejectReason, Sequence, SourceSequence};
use prost_types::Timestamp;

pub(in crate::grpc) fn timestamp(time_us: i64) -> Timestamp {
    let nanos = i32::try_from(time_us.rem_euclid(1_000_000) * 1_000).unwrap_or(0);
    Timestamp { seconds: time_us.div_euclid(1_000_000), nanos }
}

pub(super) fn reason(reason: RejectReason) -> ProtoReason {
    match reason {
        RejectReason::UnknownSignal => ProtoReason::UnknownSignal,
        RejectReason::ImplausibleValue => ProtoReason::ImplausibleValue,
        RejectReason::ImplausibleTime => ProtoReason::ImplausibleTime,
        RejectReason::MalformedBatch => ProtoReason::MalformedBatch,
        RejectReason::TooLarge => ProtoReason::TooLarge,
        RejectReason::VehicleNotAllowed => ProtoReason::VehicleNotAllowed,
        RejectReason::ImplausibleSequence => ProtoReason::ImplausibleSequence,
    }
}

pub(super) fn reject(vehicle_id: &str, sequence: u64, reject: &Reject) -> ProtoReject {
    ProtoReject {
        // Of an id that is none, as much as an id may have.
        vehicle_id: vehicle_id.chars().take(VehicleId::MAX_BYTES).collect(),
        sequence,
        reading: reject.reading.and_then(|reading| u32::try_from(reading).ok()),
        reason: reason(reject.reason).into(),
        message: reject.message.clone(),
        readings: u32::try_from(reject.readings).unwrap_or(u32::MAX),
    }
}

pub(super) fn rejected(quarantined: Quarantined) -> Rejected {
    let Quarantined { source, vehicle, sequence, received_us, reject } = quarantined;
    Rejected {
        time: Some(timestamp(received_us)),
        gateway_id: source.gateway.as_str().to_owned(),
        boot_id: source.boot.as_str().to_owned(),
        vehicle_id: vehicle.map(|vehicle| vehicle.as_str().to_owned()).unwrap_or_default(),
        sequence,
        reading: reject.reading.and_then(|reading| u32::try_from(reading).ok()),
        reason: reason(reject.reason).into(),
        message: reject.message,
        readings: u32::try_from(reject.readings).unwrap_or(u32::MAX),
        signal: reject.signal.unwrap_or_default(),
        value: reject.value,
    }
}

fn ranges(sequence: &Sequence) -> Vec<ProtoRange> {
    sequence.gaps().iter().map(|range| ProtoRange { first: range.first, last: range.last }).collect()
}

/// The holes of a vehicle; none when there are none.
pub(super) fn gaps(vehicle: &VehicleId, sequence: &Sequence) -> Option<Gaps> {
    let gaps = Gaps { vehicle_id: vehicle.as_str().to_owned(), ranges: ranges(sequence) };
    (!gaps.ranges.is_empty()).then_some(gaps)
}

pub(super) fn source_gaps(of: &SourceSequence) -> SourceGaps {
    let SourceSequence { source, sequence } = of;
    SourceGaps {
        gateway_id: source.gateway.as_str().to_owned(),
        boot_id: source.boot.as_str().to_owned(),
        batches_received: sequence.highest() - sequence.missing(),
        batches_missing: sequence.missing(),
        ranges: ranges(sequence),
    }
}

pub(super) fn full_state(vehicle: &VehicleId) -> Message {
    Message::RequestFullState(RequestFullState { vehicle_id: vehicle.as_str().to_owned() })
}

pub(super) fn name_and_unit(catalogue: &Catalogue, signal: SignalId) -> (String, String) {
    catalogue.signal(signal).map(|signal| (signal.name.to_string(), signal.unit.to_string())).unwrap_or_default()
}

pub(super) fn columns(catalogue: &Catalogue, readings: Readings) -> Vec<SignalColumn> {
    let column = |column: ev_domain::Column| {
        let (signal, unit) = name_and_unit(catalogue, column.signal);
        SignalColumn { signal, unit, values: column.values.into_vec() }
    };
    readings.columns.into_iter().map(column).collect()
}
