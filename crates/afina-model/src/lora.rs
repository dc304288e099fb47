//! An adapter's parameters, in one flat buffer, and how they sit on a model.

use std::collections::BTreeSet;
use std::ops::Range;

use afina_checkpoint::{AdapterConfig, LINEAR_MODULES, LoraTensors, RawTensor, module_path, parse_module_path};
use burn::tensor::{Device, Tensor, TensorData};

use crate::{Linear, Llama, LoraPair, sampling::uniform};

/// What an adapter trains. `target_modules` are names of `LINEAR_MODULES`.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraConfig {
    pub r: usize,
    pub alpha: f64,
    pub target_modules: Vec<String>,
}

/// One adapted projection and where its factors lie in the flat buffer: `a` first, `b` right behind it.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraModule {
    pub layer: usize,
    pub projection: &'static str,
    pub in_features: usize,
    pub out_features: usize,
    pub offset: usize,
}

/// Every parameter of an adapter as one tensor, so that one optimizer step is a few operations and not thousands.
#[derive(Debug, Clone)]
pub struct LoraSet {
    pub config: LoraConfig,
    /// In model order: layer by layer, q, k, v, o, gate, up, down.
    pub modules: Vec<LoraModule>,
    /// `[parameters]`, f32
    pub values: Tensor<1>,
}

#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    #[error(
        "the adapter has `{module}`, which the model has not (layers 0 to {last_layer}, projections {LINEAR_MODULES:?})"
    )]
    UnknownModule { module: String, last_layer: usize },
    #[error("`{module}`: the model's projection is {expected:?} ([out, in]), the adapter's factors make {found:?}")]
    Shape { module: String, expected: [usize; 2], found: [usize; 2] },
    #[error("failed to read the factors of `{module}`")]
    Read { module: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("the adapter lacks `{module}`")]
    Missing { module: String },
}

impl LoraModule {
    /// `model.layers.0.self_attn.q_proj`
    pub fn path(&self) -> String {
        module_path(self.layer, self.projection)
    }

    /// Which of a block's seven projections it is.
    pub fn place(&self) -> usize {
        LINEAR_MODULES.iter().position(|&name| name == self.projection).expect("a module has one of the seven names")
    }

    /// Where `a` and `b` lie in the flat buffer.
    pub fn ranges(&self, r: usize) -> (Range<usize>, Range<usize>) {
        let middle = self.offset + self.a_len(r);
        (self.offset..middle, middle..middle + self.b_len(r))
    }

    fn a_len(&self, r: usize) -> usize {
        r * self.in_features
    }

    fn b_len(&self, r: usize) -> usize {
        self.out_features * r
    }
}

impl LoraSet {
    /// A fresh adapter that changes nothing yet: `a` uniform in ±1/√in (PEFT's Kaiming uniform with a = √5), `b` zero.
    pub fn init(model: &Llama, config: LoraConfig, seed: u64) -> LoraSet {
        let modules = modules_of(model, &config);
        let mut values = vec![0f32; parameters(&modules, config.r)];
        let mut counter = 0;
        for module in &modules {
            let bound = 1.0 / (module.in_features as f64).sqrt();
            for value in &mut values[module.offset..module.offset + module.a_len(config.r)] {
                *value = ((2.0 * uniform(seed, counter) - 1.0) * bound) as f32;
                counter += 1;
            }
        }
        LoraSet { config, modules, values: flat(values, &model.device()) }
    }

    /// An adapter read from disk, for further training: it must have exactly the modules that `config` names.
    pub fn from_tensors(model: &Llama, config: LoraConfig, tensors: &[LoraTensors]) -> Result<LoraSet, AttachError> {
        let modules = modules_of(model, &config);
        let mut values = vec![0f32; parameters(&modules, config.r)];
        for module in &modules {
            let path = module.path();
            let found = tensors.iter().find(|tensors| tensors.module == path);
            let found = found.ok_or_else(|| AttachError::Missing { module: path.clone() })?;
            let (a, b) = factors(found)?;
            let (a_len, b_len) = (module.a_len(config.r), module.b_len(config.r));
            if a.len() != a_len || b.len() != b_len {
                return Err(AttachError::Shape {
                    module: path,
                    expected: [module.out_features, module.in_features],
                    found: [found.b.shape[0], found.a.shape[1]],
                });
            }
            values[module.offset..module.offset + a_len].copy_from_slice(&a);
            values[module.offset + a_len..module.offset + a_len + b_len].copy_from_slice(&b);
        }
        Ok(LoraSet { config, modules, values: flat(values, &model.device()) })
    }

    /// How many numbers are trained.
    pub fn parameters(&self) -> usize {
        self.values.dims()[0]
    }

    /// The factors of one module, as views of the flat buffer.
    pub fn pair(&self, module: &LoraModule) -> LoraPair {
        let r = self.config.r;
        let (a_len, b_len) = (module.a_len(r), module.b_len(r));
        let part = |start: usize, length: usize, shape: [usize; 2]| {
            self.values.clone().narrow(0, start, length).reshape(shape)
        };
        LoraPair {
            a: part(module.offset, a_len, [r, module.in_features]),
            b: part(module.offset + a_len, b_len, [module.out_features, r]),
            scale: self.config.alpha / r as f64,
        }
    }

    /// The model with this adapter on; the base's weights are shared, not copied.
    pub fn attach(&self, model: &Llama) -> Llama {
        let mut model = model.clone();
        for module in &self.modules {
            let pair = self.pair(module);
            projection_mut(&mut model, module.layer, module.projection).lora = Some(pair);
        }
        model
    }

    /// PEFT's two factors of every module, in model order.
    pub fn to_tensors(&self) -> Vec<LoraTensors> {
        let values: Vec<f32> = self.values.try_to_vec_as().expect("adapter values are f32 on a device that answers");
        let r = self.config.r;
        self.modules
            .iter()
            .map(|module| {
                let (a, rest) = values[module.offset..].split_at(module.a_len(r));
                let b = &rest[..module.b_len(r)];
                LoraTensors {
                    module: module.path(),
                    a: RawTensor::from_f32(format!("{}.lora_A.weight", module.path()), vec![r, module.in_features], a),
                    b: RawTensor::from_f32(format!("{}.lora_B.weight", module.path()), vec![module.out_features, r], b),
                }
            })
            .collect()
    }
}

/// The model with an adapter from disk on it. Every tensor of the adapter must find its projection: an adapter that does nothing is never silent.
pub fn apply_adapter(model: &Llama, config: &AdapterConfig, tensors: &[LoraTensors]) -> Result<Llama, AttachError> {
    let mut model = model.clone();
    let device = model.device();
    let last_layer = model.layers.len() - 1;
    for tensor in tensors {
        let unknown = || AttachError::UnknownModule { module: tensor.module.clone(), last_layer };
        let (layer, projection) = parse_module_path(&tensor.module).ok_or_else(unknown)?;
        if layer > last_layer {
            return Err(unknown());
        }
        let linear = projection_mut(&mut model, layer, projection);
        let expected = linear.weight.dims();
        let found = [tensor.b.shape[0], tensor.a.shape[1]];
        if expected != found {
            return Err(AttachError::Shape { module: tensor.module.clone(), expected, found });
        }
        let (a, b) = factors(tensor)?;
        let r = tensor.a.shape[0];
        linear.lora = Some(LoraPair {
            a: Tensor::from_data(TensorData::new(a, [r, found[1]]), &device),
            b: Tensor::from_data(TensorData::new(b, [found[0], r]), &device),
            scale: config.scaling(&tensor.module),
        });
    }
    Ok(model)
}

fn modules_of(model: &Llama, config: &LoraConfig) -> Vec<LoraModule> {
    let wanted: BTreeSet<&str> = config.target_modules.iter().map(String::as_str).collect();
    let mut offset = 0;
    let mut modules = Vec::new();
    for (layer, block) in model.layers.iter().enumerate() {
        for (projection, linear) in block.projections() {
            if !wanted.contains(projection) {
                continue;
            }
            let [out_features, in_features] = linear.weight.dims();
            modules.push(LoraModule { layer, projection, in_features, out_features, offset });
            offset += config.r * (in_features + out_features);
        }
    }
    modules
}

fn parameters(modules: &[LoraModule], r: usize) -> usize {
    modules.iter().map(|module| r * (module.in_features + module.out_features)).sum()
}

fn flat(values: Vec<f32>, device: &Device) -> Tensor<1> {
    let length = values.len();
    Tensor::from_data(TensorData::new(values, [length]), device)
}

fn factors(tensors: &LoraTensors) -> Result<(Vec<f32>, Vec<f32>), AttachError> {
    let read = |tensor: &RawTensor| {
        tensor.to_f32().map_err(|source| AttachError::Read { module: tensors.module.clone(), source: Box::new(source) })
    };
    Ok((read(&tensors.a)?, read(&tensors.b)?))
}

fn projection_mut<'m>(model: &'m mut Llama, layer: usize, projection: &str) -> &'m mut Linear {
    let (_, linear) = model.layers[layer]
        .projections_mut()
        .into_iter()
        .find(|(name, _)| *name == projection)
        .expect("a module's name is one of a block's seven projections");
    linear
}
