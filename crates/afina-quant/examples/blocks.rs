//! The block formats on standard input and output, raw and little endian, for `tests/peers/quant_blocks.py`.
//!
//! ```sh
//! blocks encode FORMAT            # f32 → blocks, scales too large for f16 too, as ggml's functions write them
//! blocks decode FORMAT            # blocks → f32
//! blocks refused FORMAT           # f32 → a byte for each block: 1 where `Format::encode` refuses it
//! blocks nf4 BLOCK                # f32 → packed numbers, then absmax
//! blocks nf4-decode BLOCK COUNT   # packed numbers, then absmax → f32
//! blocks nest OFFSET              # f32 → bytes, then nested_absmax
//! blocks unnest OFFSET COUNT      # bytes, then nested_absmax → f32
//! blocks offset                   # f32 → their mean as f32
//! blocks time COLUMNS FILE        # a format's name a line → seconds to encode the f32 of FILE on all threads
//! ```

use std::{
    error::Error,
    io::{BufRead, Read, Write},
    time::Instant,
};

use afina_quant::{
    bf16, dynamic_map, f16,
    format::{Format, FormatError},
    nf4,
};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["encode", format] => {
            let format: Format = format.parse()?;
            let values = floats(&input()?);
            let mut bytes = vec![0; values.len() / format.block() * format.block_bytes()];
            encode(format, &values, &mut bytes)?;
            output(&bytes)
        }
        ["decode", format] => {
            let format: Format = format.parse()?;
            let blocks = input()?;
            let mut values = vec![0.0; blocks.len() / format.block_bytes() * format.block()];
            format.decode(&blocks, values.len(), &mut values)?;
            output(&bytes(&values))
        }
        ["refused", format] => {
            let format: Format = format.parse()?;
            let mut bytes = vec![0; format.block_bytes()];
            let refused = floats(&input()?)
                .chunks(format.block())
                .map(|values| u8::from(format.encode(values, format.block(), &mut bytes).is_err()))
                .collect::<Vec<u8>>();
            output(&refused)
        }
        ["nf4", block] => {
            let (block, values) = (block.parse()?, floats(&input()?));
            let mut packed = vec![0; nf4::packed_len(values.len())];
            let mut absmax = vec![0.0; nf4::blocks(values.len(), block)];
            nf4::encode(&values, block, &mut packed, &mut absmax)?;
            output(&[packed, bytes(&absmax)].concat())
        }
        ["nf4-decode", block, count] => {
            let (block, count) = (block.parse()?, count.parse()?);
            let input = input()?;
            let (packed, absmax) = input.split_at(nf4::packed_len(count));
            let mut values = vec![0.0; count];
            nf4::decode(packed, &floats(absmax), block, &mut values);
            output(&bytes(&values))
        }
        ["nest", offset] => {
            let scales = floats(&input()?);
            let mut codes = vec![0; scales.len()];
            let mut nested = vec![0.0; nf4::blocks(scales.len(), dynamic_map::BLOCK)];
            nf4::nest(&scales, offset.parse()?, &mut codes, &mut nested);
            output(&[codes, bytes(&nested)].concat())
        }
        ["unnest", offset, count] => {
            let input = input()?;
            let (codes, nested) = input.split_at(count.parse()?);
            let mut scales = vec![0.0; codes.len()];
            nf4::unnest(codes, &dynamic_map::map(), &floats(nested), offset.parse()?, &mut scales);
            output(&bytes(&scales))
        }
        ["offset"] => output(&nf4::offset(&floats(&input()?)).to_le_bytes()),
        ["time", columns, file] => {
            let columns = columns.parse()?;
            let values = floats(&std::fs::read(file)?);
            let mut bytes = vec![0; values.len() * 4];
            let mut absmax = vec![0.0; nf4::blocks(values.len(), nf4::BLOCK)];
            for line in std::io::stdin().lock().lines() {
                let line = line?;
                if line == "NF4" {
                    let start = Instant::now();
                    nf4::encode(&values, nf4::BLOCK, &mut bytes[..nf4::packed_len(values.len())], &mut absmax)?;
                    output(format!("{}\n", start.elapsed().as_secs_f64()).as_bytes())?;
                    continue;
                }
                let format: Format = line.trim().parse()?;
                let size = values.len() / columns * format.row_bytes(columns)?;
                let start = Instant::now();
                format.encode(&values, columns, &mut bytes[..size])?;
                output(format!("{}\n", start.elapsed().as_secs_f64()).as_bytes())?;
            }
            Ok(())
        }
        _ => Err("expected a command and its arguments, as the source's first lines list them".into()),
    }
}

/// Block by block. A scale that is too large leaves its block as ggml's function does; halves keep what is not finite.
fn encode(format: Format, values: &[f32], bytes: &mut [u8]) -> Result<(), FormatError> {
    match format {
        Format::F16 => f16::encode(values, bytes),
        Format::BF16 => bf16::encode(values, bytes),
        _ => {
            for (values, block) in values.chunks(format.block()).zip(bytes.chunks_mut(format.block_bytes())) {
                match format.encode(values, values.len(), block) {
                    Ok(()) | Err(FormatError::TooLarge { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }
    Ok(())
}

fn input() -> Result<Vec<u8>, Box<dyn Error>> {
    let mut bytes = Vec::new();
    std::io::stdin().lock().read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn output(bytes: &[u8]) -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)?;
    Ok(out.flush()?)
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
