//! What a model file may ask for. Each limit is far above real models and low enough that a hostile file costs little.

/// Bytes of a model file. A forest of 500 trees of depth 6 takes 2 to 3 MB.
pub(crate) const FILE_BYTES_MAX: u64 = 256 << 20;

/// Trees of a forest, all classes and parallel trees together.
pub(crate) const TREES_MAX: usize = 65_536;

/// Nodes of one tree.
pub(crate) const TREE_NODES_MAX: usize = 1 << 20;

/// Nodes of all trees together, at 12 bytes each once loaded.
pub(crate) const NODES_MAX: usize = 1 << 23;

/// Splits between a root and its deepest leaf: bounds the time of one row.
pub(crate) const DEPTH_MAX: usize = 1_024;

/// Columns of a row; the portable kernel holds twice a column's number in 16 bits.
pub(crate) const COLUMNS_MAX: usize = 1 << 15;

/// Values of an answer: classes or targets.
pub(crate) const GROUPS_MAX: usize = 1_024;

/// Containers inside containers; XGBoost writes seven. Also `serde_json`'s own limit.
pub(crate) const NESTING_MAX: usize = 128;
