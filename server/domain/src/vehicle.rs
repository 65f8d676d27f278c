//! Vehicle ids.

use std::{borrow::Borrow, fmt, sync::Arc};

use crate::VehicleIdError;

/// A fleet's own name for a vehicle: 1 to 64 printable ASCII characters without blanks, compared byte for byte. Cheap to
/// clone: a batch's id goes from its stream through queue and store to its acknowledgements.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VehicleId(Arc<str>);

// === impl VehicleId ===

impl VehicleId {
    /// Longest accepted id in bytes.
    pub const MAX_BYTES: usize = 64;

    /// Checks and takes an id.
    ///
    /// # Errors
    ///
    /// When it is empty, too long, or holds a blank, a control character or anything outside ASCII.
    pub fn new(id: &str) -> Result<VehicleId, VehicleIdError> {
        if id.is_empty() {
            return Err(VehicleIdError("is empty, expected 1 to 64 printable characters"));
        }
        if id.len() > Self::MAX_BYTES {
            return Err(VehicleIdError("is too long, expected at most 64 characters"));
        }
        if !id.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(VehicleIdError("holds a blank, control or non-ASCII character, expected printable ASCII"));
        }
        Ok(VehicleId(id.into()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether both are the same piece of memory, and so equal. Two that are not may be equal all the same.
    #[must_use]
    pub fn is_same(&self, other: &VehicleId) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Borrow<str> for VehicleId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VehicleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_short_printable_and_without_blanks() {
        let check = |id: &str, accepted: bool| assert_eq!(VehicleId::new(id).is_ok(), accepted, "{id:?}");
        check("VIN-5YJ3E1EA7KF000001", true);
        check("", false);
        check("a b", false);
        check("tab\t", false);
        check("é", false);
        check(&"x".repeat(64), true);
        check(&"x".repeat(65), false);
    }
}
