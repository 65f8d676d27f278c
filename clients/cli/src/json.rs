//! The API's messages as JSON and back, by their descriptors.
//!
//! It is the protobuf JSON mapping with two liberties that scripts want: names as the `.proto` has them, and 64-bit integers as numbers.

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DescriptorPool, DeserializeOptions, DynamicMessage, MessageDescriptor, SerializeOptions};
use serde::{Serialize, Serializer};

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(ev_client::proto::FILE_DESCRIPTOR_SET).expect("the descriptors were compiled with the API")
});

/// A message that prints as JSON.
#[derive(Debug)]
pub(crate) struct Json(DynamicMessage);

/// The descriptor of a message by its full name, such as `ev.range.v1.PredictRequest`.
pub(crate) fn descriptor(name: &str) -> MessageDescriptor {
    POOL.get_message_by_name(name).unwrap_or_else(|| panic!("the API has no message {name}"))
}

/// Reads a message of the given name.
///
/// # Errors
///
/// The text is not JSON, has an unknown field, or a field of another type.
pub(crate) fn parse<M: Message + Default>(name: &str, text: &str) -> Result<M, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    let message = DynamicMessage::deserialize_with_options(descriptor(name), &mut deserializer, &options)?;
    deserializer.end()?;
    Ok(message.transcode_to().expect("the descriptor is the message's own"))
}

// === impl Json ===

impl Json {
    /// A message of the given name.
    pub(crate) fn new(name: &str, message: &impl Message) -> Json {
        let bytes = message.encode_to_vec();
        Json(DynamicMessage::decode(descriptor(name), bytes.as_slice()).expect("the descriptor is the message's own"))
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let options = SerializeOptions::new()
            .use_proto_field_name(true)
            .stringify_64_bit_integers(false)
            .skip_default_fields(false);
        self.0.serialize_with_options(serializer, &options)
    }
}

#[cfg(test)]
mod tests {
    use ev_client::proto::ev::{
        common::v1::{PredictionInfo, PredictionStatus, Timings},
        range::v1::{PredictRequest, PredictResponse},
    };

    use super::*;

    const REQUEST: &str = "ev.range.v1.PredictRequest";

    #[test]
    fn numbers_stay_numbers_and_names_are_those_of_the_api() {
        let response = PredictResponse {
            range_q50_km: 314.2,
            info: Some(PredictionInfo {
                status: PredictionStatus::Ok.into(),
                timings: Some(Timings { total_ns: 9_007_199_254_740_991, ..Timings::default() }),
                ..PredictionInfo::default()
            }),
            ..PredictResponse::default()
        };
        let json = serde_json::to_string(&Json::new("ev.range.v1.PredictResponse", &response)).expect("encoded");
        assert_eq!(
            json,
            "{\"range_q10_km\":0.0,\"range_q50_km\":314.2,\"range_q90_km\":0.0,\"info\":{\"prediction_id\":\"\",\
             \"status\":\"PREDICTION_STATUS_OK\",\"out_of_distribution\":[],\"feature_coverage\":0.0,\
             \"timings\":{\"queue_ns\":0,\"features_ns\":0,\"inference_ns\":0,\"total_ns\":9007199254740991},\
             \"features\":[],\"degraded\":false}}"
        );
    }

    #[test]
    fn requests_are_read() {
        let request: PredictRequest =
            parse(REQUEST, r#"{"make":"Tesla","model":"Model 3","battery_capacity_kwh":60}"#).expect("read");
        assert_eq!(request.battery_capacity_kwh, Some(60.0));
        assert_eq!(request.seats, None);
    }

    #[test]
    fn wrong_requests_are_refused() {
        for (text, part) in [
            (r#"{"mak":"Tesla"}"#, "mak"),
            (r#"{"seats":"many"}"#, "line 1"),
            (r#"{"make":"Tesla"} x"#, "trailing"),
            ("{", "EOF"),
        ] {
            let error = parse::<PredictRequest>(REQUEST, text).expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
