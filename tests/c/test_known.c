/* Known answers, read from tests/vectors: Random123's for philox4x32-10 as a plane of each instruction set's block kernel,
 * and the law's vectors of bits and of normals. test_kernels.c runs this on every instruction set. */
#include "check.h"
#include "fd_philox.h"

static FILE *open_vectors(const char *name) {
    char path[500];
    snprintf(path, sizeof path, "%s/%s", vectors, name);
    FILE *file = fopen(path, "r");
    if (file == NULL) perror(path), exit(2);
    return file;
}

/* Which of 64 lanes are kept where planes 0 .. last have these bits. */
static uint64_t compare(uint64_t planes[32], unsigned last, uint64_t q) {
    uint64_t kept = 0;
    for (int lane = 0; lane < 64; lane++) {
        uint64_t u = 0;
        for (unsigned j = 0; j <= last; j++) u |= (planes[j] >> lane & 1) << (31 - j);
        kept |= (uint64_t)(u < q) << lane;
    }
    return kept;
}

/* The published words as plane j of a block: a counter's second word is the block's high half with j above it, so the block
 * is numbered for their xor to be the published one. Planes before j come from scalar Philox, which has to know the answer
 * itself; the block stands at every lane of a vector, and alone. */
static void check_plane(const uint32_t in[6], const uint32_t out[4], unsigned j) {
    enum { BEFORE = 40, AFTER = 24 };
    uint64_t planes[2][32], bits[(BEFORE + 1 + AFTER) * FD_BLOCK_WORDS], one[FD_BLOCK_WORDS];
    const uint64_t block = in[0] | (uint64_t)(in[1] ^ j << 24) << 32;
    const uint64_t q = ((random_u64() >> 32 | 1) << (31 - j)) & 0xFFFFFFFFu;
    const fd_law law = {in[4] | (uint64_t)in[5] << 32, in[2] | (uint64_t)in[3] << 32, q};
    for (unsigned k = 0; k <= j; k++) {
        const uint32_t counter[4] = {in[0], in[1] ^ j << 24 ^ k << 24, in[2], in[3]};
        uint32_t words[4];
        fd_philox4x32(counter, in + 4, words);
        if (k == j) CHECK(memcmp(words, out, sizeof words) == 0, "scalar Philox");
        const uint32_t *const w = k == j ? out : words;
        planes[0][k] = w[0] | (uint64_t)w[1] << 32, planes[1][k] = w[2] | (uint64_t)w[3] << 32;
    }
    const uint64_t want[2] = {compare(planes[0], j, q), compare(planes[1], j, q)};
    for (uint64_t before = 0; before <= BEFORE; before++) {
        fd_kernels_in_use()->blocks(&law, block - before, (size_t)before + 1 + (size_t)(before % AFTER), bits, NULL);
        CHECK(memcmp(bits + before * FD_BLOCK_WORDS, want, sizeof want) == 0, "plane %u of %08x, after %d blocks", j,
              (unsigned)in[0], (int)before);
    }
    if ((in[1] ^ j << 24) >> 24 == 0) { /* alone, it is made with `or`, of numbers that a block may have */
        fd_one_block(&law, block, one);
        CHECK(memcmp(one, want, sizeof want) == 0, "plane %u of %08x alone", j, (unsigned)in[0]);
    }
}

static void test_philox(void) {
    FILE *file = open_vectors("philox4x32_10.txt");
    char line[200];
    int answers = 0;
    while (fgets(line, sizeof line, file) != NULL) {
        unsigned w[10];
        if (sscanf(line, "%x %x %x %x %x %x %x %x %x %x", w, w + 1, w + 2, w + 3, w + 4, w + 5, w + 6, w + 7, w + 8,
                   w + 9) != 10)
            continue;
        uint32_t in[6], out[4];
        for (int i = 0; i < 6; i++) in[i] = w[i];
        for (int i = 0; i < 4; i++) out[i] = w[6 + i];
        for (unsigned j = 0; j < 32; j++) check_plane(in, out, j);
        answers++;
    }
    fclose(file);
    CHECK(answers == 3, "%d answers", answers);
}

/* One case of a .json file: a member a line, in the order in which regenerate.py writes them. */
typedef struct {
    unsigned long long key, call, start, count, q, kept;
    double p;
    char hex[5000];
} vector;

static int next_vector(FILE *file, vector *v) {
    char line[5200];
    while (fgets(line, sizeof line, file) != NULL) {
        sscanf(line, " \"seed\": \"%llu", &v->key), sscanf(line, " \"call\": \"%llu", &v->call);
        sscanf(line, " \"start\": \"%llu", &v->start), sscanf(line, " \"count\": %llu", &v->count);
        sscanf(line, " \"p\": %lf", &v->p), sscanf(line, " \"keep_threshold\": \"%llu", &v->q);
        sscanf(line, " \"kept\": %llu", &v->kept);
        if (sscanf(line, " \"bits_lsb_first_hex\": \"%4999[0-9a-f]", v->hex) == 1) return 1;
        if (sscanf(line, " \"float32_little_endian_hex\": \"%4999[0-9a-f]", v->hex) == 1) return 1;
    }
    return 0;
}

static unsigned byte_of(const char *hex, size_t i) {
    unsigned v = 256;
    sscanf(hex + 2 * i, "%2x", &v);
    return v;
}

static void test_bits(void) {
    enum { MOST = 300 };
    static vector v;
    unsigned char packed[MOST / 8 + 1], from_view[MOST / 8 + 1], bools[MOST];
    FILE *file = open_vectors("mask_law.json");
    int cases = 0;
    for (; next_vector(file, &v); cases++) {
        const fd_law law = {v.key, v.call, v.q};
        const int64_t n = (int64_t)v.count, step = 1;
        const fd_view mask = {law, v.start, 1, &n, &step};
        unsigned long long kept = 0;
        CHECK(v.count <= MOST && strlen(v.hex) == (v.count + 7) / 8 * 2, "case %d", cases);
        CHECK(fd_threshold(v.p) == v.q, "threshold of %g", v.p);
        fd_bits(&law, v.start, v.count, packed);
        fd_mask_pack(&mask, from_view);
        fd_mask_bools(&mask, bools);
        for (size_t i = 0; i < (v.count + 7) / 8; i++)
            CHECK(packed[i] == byte_of(v.hex, i) && from_view[i] == packed[i], "case %d byte %d", cases, (int)i);
        for (size_t i = 0; i < v.count; i++) {
            CHECK(bools[i] == (byte_of(v.hex, i / 8) >> i % 8 & 1), "case %d bool %d", cases, (int)i);
            kept += bools[i];
        }
        CHECK(kept == v.kept, "case %d keeps %llu", cases, kept);
    }
    fclose(file);
    CHECK(cases == 6, "%d cases", cases);
}

static void test_normals(void) {
    enum { MOST = 300 };
    static vector v;
    static float z[MOST];
    FILE *file = open_vectors("normals.json");
    int cases = 0;
    for (; next_vector(file, &v); cases++) {
        const int64_t n = (int64_t)v.count, step = 1;
        const fd_view noise = {{v.key, v.call, 0}, v.start, 1, &n, &step};
        CHECK(v.count <= MOST && strlen(v.hex) == v.count * 8, "case %d", cases);
        fd_normals(&noise, z);
        for (size_t i = 0; i < v.count; i++) {
            uint32_t want = 0;
            for (size_t k = 0; k < 4; k++) want |= byte_of(v.hex, 4 * i + k) << 8 * k;
            CHECK(bits_of_f32(z[i]) == want, "case %d normal %d", cases, (int)i);
        }
    }
    fclose(file);
    CHECK(cases == 6, "%d cases", cases);
}

void test_known(void) {
    test_philox();
    test_bits();
    test_normals();
}
