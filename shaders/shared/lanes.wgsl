// Who computes what of a group of 32 rows times one token, and how lanes that share a row add up.
//
// Row per thread: a few lanes hold several whole rows each, no barrier; as many as software adapters compute at a time, so that
// they read the group's weights from begin to end. `cooperative`: a lane for each row, SLICES times, which add up in workgroup
// memory. `subgroups`: teams of SLICES neighbouring lanes, each of which holds a team's ROWS neighbouring rows, so that an
// activation serves several rows; lanes of a subgroup add up by themselves, and the parts of a team, where subgroups are smaller,
// in workgroup memory. A subgroup is taken to be neighbours in the workgroup.
//
// Where rows are shared, lane r of the first 32 ends up with the sum of row r.

@if(quads) import package::shared::formats::Row;

@if(subgroups && browser) enable subgroups;

@if(cooperative) const SLICES: u32 = 8u;
@if(subgroups) const SLICES: u32 = 32u;
@if(!cooperative && !subgroups) const SLICES: u32 = 1u;
@if(cooperative) const LANES: u32 = 32u;
@if(quads) const LANES: u32 = 4u;
@if(!cooperative && !quads) const LANES: u32 = 8u; // with `subgroups`, teams
const ROWS: u32 = 32u / LANES;
@if(subgroups) const HELD: u32 = 1u; // rows whose sums a lane has at the end
@if(!subgroups) const HELD: u32 = ROWS;

fn lane_of(thread: u32) -> u32 {
    @if(subgroups) {
        return thread / SLICES;
    }
    @if(!subgroups) {
        return thread % LANES;
    }
}

fn slice_of(thread: u32) -> u32 {
    @if(subgroups) {
        return thread % SLICES;
    }
    @if(!subgroups) {
        return thread / LANES;
    }
}

fn row_of(lane: u32, r: u32) -> u32 {
    @if(subgroups) {
        return lane * ROWS + r;
    }
    @if(!subgroups) {
        return lane + LANES * r;
    }
}

// Parts of all teams' sums: a subgroup has at least four lanes.
@if(subgroups) const PARTS: u32 = 64u;

// Lanes of a team that are in one subgroup.
@if(subgroups)
fn joined(subgroup_size: u32) -> u32 {
    return min(subgroup_size, SLICES);
}

// The sum over a team's `lanes` lanes in this subgroup; subgroups may hold several teams.
@if(subgroups)
fn add_joined(v: vec4<f32>, lanes: u32) -> vec4<f32> {
    var sum = v;
    for (var distance = 1u; distance < SLICES; distance *= 2u) {
        sum += select(vec4(0.0), subgroupShuffleXor(sum, distance), distance < lanes);
    }
    return sum;
}

// The r-th of a lane's rows in whole groups from one on, without a division, which SwiftShader computes lane by lane, and by signed
// numbers: it takes three times as long to make floats of others, and others of floats.
@if(quads)
fn nth_row(group: u32, r: u32, lane: u32, blocks: u32) -> Row {
    let further = i32(f32(bitcast<i32>(r)) * 0.125);
    return Row(group + bitcast<u32>(further), lane + LANES * (r & 7u), blocks);
}
