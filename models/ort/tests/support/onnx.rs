//! Writes ONNX files: the messages of `onnx.proto` that are needed, and a graph that grows node by node.

use prost::Message;

pub(crate) const FLOAT: i32 = 1;
pub(crate) const UINT8: i32 = 2;
pub(crate) const INT64: i32 = 7;
pub(crate) const STRING: i32 = 8;
pub(crate) const BOOL: i32 = 9;
pub(crate) const DOUBLE: i32 = 11;

/// A dimension of any size.
pub(crate) const ANY: i64 = -1;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Model {
    #[prost(int64, tag = "1")]
    pub(crate) ir_version: i64,
    #[prost(message, optional, tag = "7")]
    pub(crate) graph: Option<Graph>,
    #[prost(message, repeated, tag = "8")]
    pub(crate) opset_import: Vec<OperatorSet>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct OperatorSet {
    #[prost(string, tag = "1")]
    pub(crate) domain: String,
    #[prost(int64, tag = "2")]
    pub(crate) version: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Graph {
    #[prost(message, repeated, tag = "1")]
    pub(crate) node: Vec<Node>,
    #[prost(string, tag = "2")]
    pub(crate) name: String,
    #[prost(message, repeated, tag = "5")]
    pub(crate) initializer: Vec<Tensor>,
    #[prost(message, repeated, tag = "11")]
    pub(crate) input: Vec<ValueInfo>,
    #[prost(message, repeated, tag = "12")]
    pub(crate) output: Vec<ValueInfo>,
    #[prost(message, repeated, tag = "15")]
    pub(crate) sparse_initializer: Vec<SparseTensor>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Node {
    #[prost(string, repeated, tag = "1")]
    pub(crate) input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub(crate) output: Vec<String>,
    #[prost(string, tag = "4")]
    pub(crate) op_type: String,
    #[prost(message, repeated, tag = "5")]
    pub(crate) attribute: Vec<Attribute>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Attribute {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(float, tag = "2")]
    pub(crate) f: f32,
    #[prost(int64, tag = "3")]
    pub(crate) i: i64,
    #[prost(message, optional, tag = "5")]
    pub(crate) t: Option<Tensor>,
    #[prost(message, optional, tag = "6")]
    pub(crate) g: Option<Graph>,
    #[prost(int64, repeated, tag = "8")]
    pub(crate) ints: Vec<i64>,
    #[prost(int32, tag = "20")]
    pub(crate) kind: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Tensor {
    #[prost(int64, repeated, tag = "1")]
    pub(crate) dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    pub(crate) data_type: i32,
    #[prost(int64, repeated, tag = "7")]
    pub int64_data: Vec<i64>,
    #[prost(string, tag = "8")]
    pub(crate) name: String,
    #[prost(bytes, optional, tag = "9")]
    pub(crate) raw_data: Option<Vec<u8>>,
    #[prost(message, repeated, tag = "13")]
    pub(crate) external_data: Vec<Entry>,
    #[prost(int32, tag = "14")]
    pub(crate) data_location: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SparseTensor {
    #[prost(message, optional, tag = "1")]
    pub(crate) values: Option<Tensor>,
    #[prost(int64, repeated, tag = "3")]
    pub(crate) dims: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Entry {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    #[prost(string, tag = "2")]
    pub(crate) value: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ValueInfo {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) kind: Option<Kind>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Kind {
    #[prost(message, optional, tag = "1")]
    pub(crate) tensor: Option<TensorKind>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TensorKind {
    #[prost(int32, tag = "1")]
    pub(crate) elem_type: i32,
    #[prost(message, optional, tag = "2")]
    pub(crate) shape: Option<Shape>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Shape {
    #[prost(message, repeated, tag = "1")]
    pub(crate) dim: Vec<Dimension>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Dimension {
    #[prost(int64, optional, tag = "1")]
    pub(crate) size: Option<i64>,
    #[prost(string, optional, tag = "2")]
    pub(crate) name: Option<String>,
}

// === impl Graph ===

impl Graph {
    /// A graph of nothing.
    pub(crate) fn new() -> Graph {
        Graph { name: "graph".into(), ..Graph::default() }
    }

    pub(crate) fn input(&mut self, name: &str, element: i32, dimensions: &[i64]) -> String {
        self.input.push(value(name, element, dimensions));
        name.to_owned()
    }

    /// Names the last node's output as the graph's.
    pub(crate) fn output(&mut self, name: &str, from: &str, element: i32, dimensions: &[i64]) {
        self.node.push(Node {
            input: vec![from.into()],
            output: vec![name.into()],
            op_type: "Identity".into(),
            ..Node::default()
        });
        self.output.push(value(name, element, dimensions));
    }

    pub(crate) fn weight(&mut self, name: &str, shape: &[usize], values: &[f32]) -> String {
        self.initializer.push(Tensor::floats(name, shape, values));
        name.to_owned()
    }

    pub(crate) fn integers(&mut self, name: &str, values: &[i64]) -> String {
        let dims = vec![i64::try_from(values.len()).expect("few")];
        self.initializer.push(Tensor {
            dims,
            data_type: INT64,
            int64_data: values.to_vec(),
            name: name.into(),
            ..Tensor::default()
        });
        name.to_owned()
    }

    /// Adds a node and gives its output's name.
    pub(crate) fn node(&mut self, op_type: &str, inputs: &[&str], attributes: Vec<Attribute>) -> String {
        let output = format!("{op_type}_{}", self.node.len());
        self.node.push(Node {
            input: inputs.iter().map(|name| (*name).to_owned()).collect(),
            output: vec![output.clone()],
            op_type: op_type.into(),
            attribute: attributes,
        });
        output
    }

    pub(crate) fn into_model(self) -> Model {
        let opset_import = vec![OperatorSet { domain: String::new(), version: 20 }];
        Model { ir_version: 9, graph: Some(self), opset_import }
    }

    /// The file.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.into_model().encode_to_vec()
    }
}

// === impl Attribute ===

impl Attribute {
    pub(crate) fn float(name: &str, f: f32) -> Attribute {
        Attribute { name: name.into(), f, kind: 1, ..Attribute::default() }
    }

    pub(crate) fn int(name: &str, i: i64) -> Attribute {
        Attribute { name: name.into(), i, kind: 2, ..Attribute::default() }
    }

    pub(crate) fn tensor(name: &str, t: Tensor) -> Attribute {
        Attribute { name: name.into(), t: Some(t), kind: 4, ..Attribute::default() }
    }

    pub(crate) fn graph(name: &str, g: Graph) -> Attribute {
        Attribute { name: name.into(), g: Some(g), kind: 5, ..Attribute::default() }
    }

    pub(crate) fn ints(name: &str, ints: &[i64]) -> Attribute {
        Attribute { name: name.into(), ints: ints.to_vec(), kind: 7, ..Attribute::default() }
    }
}

// === impl Tensor ===

impl Tensor {
    pub(crate) fn floats(name: &str, shape: &[usize], values: &[f32]) -> Tensor {
        assert_eq!(shape.iter().product::<usize>(), values.len(), "{name}");
        Tensor {
            dims: shape.iter().map(|size| i64::try_from(*size).expect("small")).collect(),
            data_type: FLOAT,
            name: name.into(),
            raw_data: Some(values.iter().flat_map(|value| value.to_le_bytes()).collect()),
            ..Tensor::default()
        }
    }
}

fn value(name: &str, elem_type: i32, dimensions: &[i64]) -> ValueInfo {
    let dim = |(index, size): (usize, &i64)| match *size {
        ANY => Dimension { size: None, name: Some(format!("d{index}")) },
        size => Dimension { size: Some(size), name: None },
    };
    let shape = Some(Shape { dim: dimensions.iter().enumerate().map(dim).collect() });
    ValueInfo { name: name.into(), kind: Some(Kind { tensor: Some(TensorKind { elem_type, shape }) }) }
}
