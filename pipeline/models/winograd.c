// Passes around the 36 products of Winograd's filtering F(4x4, 3x3), of one image: what gan_models/winograd.py does by
// matrix products, with the norm before and after it, in one pass over memory each. Channels are innermost. Sums are
// taken in an order that no number of threads changes.
//
// Shapes: x and y [H, W, C]; values at the points [36, T, C], for T of the tiles of 4 x 4 outputs.

#include <stdint.h>

#ifdef __AVX512F__
#define BLOCK 16
#else
#define BLOCK 8
#endif
// Channels of a vector.

#define LINE 16  // channels of a cache line; C is a multiple of it
#define PARTS (LINE / BLOCK)
// The values at a point lie far apart, often by a power of two, so that few of their lines are in a cache at once: each
// line is read or written whole.

typedef float lanes __attribute__((vector_size(4 * BLOCK)));
typedef int32_t bits __attribute__((vector_size(4 * BLOCK)));
typedef float unaligned __attribute__((vector_size(4 * BLOCK), aligned(4), may_alias));
typedef double wide __attribute__((vector_size(8 * BLOCK)));
typedef double unaligned_wide __attribute__((vector_size(8 * BLOCK), aligned(8), may_alias));

static const float half = 0.70710678118654752440f, two = 1.41421356237309504880f;

static inline lanes load(const float *p) { return *(const unaligned *)p; }
static inline void store(float *p, lanes v) { *(unaligned *)p = v; }

// Six pixels, or values, `step` apart, to the values at the six points, `to` apart.
static inline __attribute__((always_inline)) void to_points(const lanes *d, int step, lanes *v, int to) {
    lanes d0 = d[0], d1 = d[step], d2 = d[2 * step], d3 = d[3 * step], d4 = d[4 * step], d5 = d[5 * step];
    lanes even = d4 - 2.0f * d2, odd = half * d3 - two * d1;
    lanes even_of_two = d4 - 0.5f * d2, odd_of_two = two * d3 - half * d1;
    v[0] = d0 - 2.5f * d2 + d4;
    v[to] = even + odd;
    v[2 * to] = even - odd;
    v[3 * to] = even_of_two + odd_of_two;
    v[4 * to] = even_of_two - odd_of_two;
    v[5 * to] = d1 - 2.5f * d3 + d5;
}

// Six values at the points to four outputs.
static inline __attribute__((always_inline)) void from_points(const lanes *m, int step, lanes *y, int to) {
    lanes plus = m[step] + m[2 * step], minus = m[step] - m[2 * step];
    lanes plus_of_two = m[3 * step] + m[4 * step], minus_of_two = m[3 * step] - m[4 * step];
    y[0] = m[0] + plus + plus_of_two;
    y[to] = half * minus + two * minus_of_two;
    y[2 * to] = 0.5f * plus + 2.0f * plus_of_two;
    y[3 * to] = 0.5f * half * minus + 2.0f * two * minus_of_two + m[5 * step];
}

static inline int64_t mirrored(int64_t i, int64_t size) {
    return i < 0 ? -i : i >= size ? 2 * size - 2 - i : i;
}

// Values at the points of tiles `first` <= t < `last` of max(x * scale + shift, least), padded by one mirrored pixel.
// scale and shift are [C], or NULL for x itself. `points` is [36, last - first, C].
void transdomain_to_points(const float *restrict x, const float *restrict scale, const float *restrict shift,
                           float least, int64_t height, int64_t width, int64_t channels, int64_t first, int64_t last,
                           float *restrict points, int threads) {
    int64_t across = (width + 3) / 4, tiles = last - first;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t t = first; t < last; t++) {
        int64_t top = t / across * 4 - 1, left = t % across * 4 - 1;
        int64_t pixels[36];  // -1 past the padding: of outputs that are cropped
        for (int i = 0; i < 6; i++)
            for (int j = 0; j < 6; j++)
                pixels[6 * i + j] = top + i > height || left + j > width
                                        ? -1
                                        : (mirrored(top + i, height) * width + mirrored(left + j, width)) * channels;
        for (int64_t from = 0; from < channels; from += LINE) {
            lanes v[PARTS][36];
            for (int part = 0; part < PARTS; part++) {
                int64_t channel = from + part * BLOCK;
                lanes d[36], rows[36], zero = {0};
                for (int p = 0; p < 36; p++) d[p] = pixels[p] < 0 ? zero : load(x + pixels[p] + channel);
                if (scale) {
                    lanes a = load(scale + channel), b = load(shift + channel);
                    for (int p = 0; p < 36; p++) {
                        lanes value = d[p] * a + b, bound = zero + least;
                        bits below = value < bound;  // false for what is no number
                        d[p] = (lanes)(((bits)value & ~below) | ((bits)bound & below));
                    }
                }
                for (int j = 0; j < 6; j++) to_points(d + j, 6, rows + j, 6);
                for (int i = 0; i < 6; i++) to_points(rows + 6 * i, 1, v[part] + 6 * i, 1);
            }
            for (int p = 0; p < 36; p++)
                for (int part = 0; part < PARTS; part++)
                    store(points + (p * tiles + t - first) * channels + from + part * BLOCK, v[part][p]);
        }
    }
}

// Outputs of these tiles, with the bias (or NULL), into y [H, W, C], and for each row of tiles the sums of the outputs and
// of their squares: sums [rows of tiles, 2, C]. `first` and `last` begin rows of tiles.
void transdomain_to_outputs(const float *restrict points, const float *restrict bias, int64_t height, int64_t width,
                            int64_t channels, int64_t first, int64_t last, float *restrict y, double *restrict sums,
                            int threads) {
    int64_t across = (width + 3) / 4, tiles = last - first;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t row = first / across; row < last / across; row++) {
        int64_t top = row * 4;
        double *sum = sums + 2 * row * channels, *squares = sum + channels;
        for (int64_t c = 0; c < 2 * channels; c++) sum[c] = 0;
        for (int64_t tile = 0; tile < across; tile++) {
            int64_t left = tile * 4, high = height - top < 4 ? height - top : 4, broad = width - left < 4 ? width - left : 4;
            for (int64_t from = 0; from < channels; from += LINE) {
                lanes m[PARTS][36];
                for (int p = 0; p < 36; p++)
                    for (int part = 0; part < PARTS; part++)
                        m[part][p] = load(points + (p * tiles + row * across + tile - first) * channels + from +
                                          part * BLOCK);
                for (int part = 0; part < PARTS; part++) {
                    int64_t channel = from + part * BLOCK;
                    lanes rows[24], out[16], b = {0};
                    if (bias) b = load(bias + channel);
                    for (int j = 0; j < 6; j++) from_points(m[part] + j, 6, rows + j, 6);
                    for (int i = 0; i < 4; i++) from_points(rows + 6 * i, 1, out + 4 * i, 1);
                    wide of_tile = *(unaligned_wide *)(sum + channel), of_squares = *(unaligned_wide *)(squares + channel);
                    for (int i = 0; i < high; i++)
                        for (int j = 0; j < broad; j++) {
                            lanes value = out[4 * i + j] + b;
                            store(y + ((top + i) * width + left + j) * channels + channel, value);
                            wide exact = __builtin_convertvector(value, wide);
                            of_tile += exact;
                            of_squares += exact * exact;
                        }
                    *(unaligned_wide *)(sum + channel) = of_tile;
                    *(unaligned_wide *)(squares + channel) = of_squares;
                }
            }
        }
    }
}

// x + y * scale + shift, into y [pixels, C]; scale and shift are [C].
void transdomain_add(const float *restrict x, float *restrict y, const float *restrict scale,
                     const float *restrict shift, int64_t pixels, int64_t channels, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < pixels; i++) {
        const float *of = x + i * channels;
        float *to = y + i * channels;
        for (int64_t c = 0; c < channels; c++) to[c] = of[c] + (to[c] * scale[c] + shift[c]);
    }
}
