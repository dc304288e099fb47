//! A frozen matrix of a model.

use std::sync::Arc;

use afina_kernels::{Matrix, Precision};
use burn::backend::DispatchDevice;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};

/// `[out, in]`, as checkpoints store it. On the CPU it lies as its kernels read it, elsewhere as a tensor.
#[derive(Debug, Clone)]
pub struct Weight {
    form: Form,
}

#[derive(Debug, Clone)]
enum Form {
    Packed { matrix: Arc<Matrix>, device: Device },
    Dense(Tensor<2>),
}

impl Weight {
    pub fn new(values: Vec<f32>, shape: [usize; 2], device: &Device, precision: Precision) -> Weight {
        if is_cpu(device) {
            let matrix = Arc::new(Matrix::new(&values, shape[0], shape[1], precision));
            return Weight { form: Form::Packed { matrix, device: device.clone() } };
        }
        let dense = Tensor::from_data(TensorData::new(values, shape), device);
        Weight::dense(match precision {
            Precision::F32 => dense,
            Precision::Bf16 => dense.cast(DType::BF16),
        })
    }

    /// A matrix that stays a tensor on the CPU too: what runs is the definition of every operation.
    pub fn dense(values: Tensor<2>) -> Weight {
        Weight { form: Form::Dense(values) }
    }

    /// `[out, in]`
    pub fn dims(&self) -> [usize; 2] {
        match &self.form {
            Form::Packed { matrix, .. } => [matrix.rows(), matrix.columns()],
            Form::Dense(values) => values.dims(),
        }
    }

    pub fn device(&self) -> Device {
        match &self.form {
            Form::Packed { device, .. } => device.clone(),
            Form::Dense(values) => values.device(),
        }
    }

    /// The matrix as the CPU's kernels read it.
    pub fn packed(&self) -> Option<&Matrix> {
        match &self.form {
            Form::Packed { matrix, .. } => Some(matrix),
            Form::Dense(_) => None,
        }
    }

    /// As an f32 tensor.
    pub fn to_tensor(&self) -> Tensor<2> {
        match &self.form {
            Form::Packed { matrix, device } => {
                Tensor::from_data(TensorData::new(matrix.to_rows(), self.dims()), device)
            }
            Form::Dense(values) if values.dtype() == DType::F32 => values.clone(),
            Form::Dense(values) => values.clone().cast(DType::F32),
        }
    }

    /// The rows that token ids name, `[ids, in]`.
    pub fn rows(&self, ids: &[u32]) -> Tensor<2> {
        match &self.form {
            Form::Packed { matrix, device } => {
                let rows: Vec<f32> = ids.iter().flat_map(|&id| matrix.row(id as usize)).collect();
                Tensor::from_data(TensorData::new(rows, [ids.len(), matrix.columns()]), device)
            }
            Form::Dense(values) => {
                let ids = TensorData::new(ids.iter().map(|&id| id as i32).collect::<Vec<i32>>(), [ids.len()]);
                let rows = values.clone().select(0, Tensor::<1, Int>::from_data(ids, &values.device()));
                if rows.dtype() == DType::F32 { rows } else { rows.cast(DType::F32) }
            }
        }
    }
}

/// Whether a device is the processor, whose kernels are `afina-kernels`.
pub fn is_cpu(device: &Device) -> bool {
    matches!(device.clone().inner().as_dispatch(), DispatchDevice::Flex(_))
}
