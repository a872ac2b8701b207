// What the matrix products have in common: their uniform, which kernels/matmul.rs writes.

struct Params {
    rows: u32,       // rows of W (of one expert)
    blocks: u32,     // columns / 32
    y_stride: u32,   // row length of y
    y_offset: u32,   // first element written in a row of y
    accumulate: u32, // 1: add to y
    first_group: u32, // groups before this part of the weights (they may be split over buffers)
    end_group: u32,   // first group behind this part
    sharing: u32,     // pairs that share a row of x
    tokens: u32,      // rows of y
    norm_cols: u32,   // matvec: columns of the norm whose division is still to come, see shared/dot; 0: none
    norm_eps: f32,
    groups: u32,      // matvec_quads and matmul_quads: groups of rows that a workgroup computes
}

// No expert in a tile, no pair in a tile's place.
const NONE: u32 = 0xffffffffu;
