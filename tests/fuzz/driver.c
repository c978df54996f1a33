/* Runs the fuzz target on files, or on the records of packed files (pack.py): what libFuzzer does with a corpus, for
 * compilers that have none. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int argc, char **argv) {
    long ran = 0;
    for (int k = 1; k < argc; k++) {
        FILE *file = fopen(argv[k], "rb");
        if (file == NULL) return perror(argv[k]), 2;
        for (int low, high; (low = getc(file)) != EOF; ran++) { /* a record: two bytes of length, and so many more */
            if ((high = getc(file)) == EOF) return fprintf(stderr, "%s is cut short\n", argv[k]), 2;
            const size_t size = (size_t)(low | high << 8);
            uint8_t *data = malloc(size + !size); /* of its own, so that reading past it shows */
            if (data == NULL || fread(data, 1, size, file) != size)
                return fprintf(stderr, "%s is cut short\n", argv[k]), 2;
            LLVMFuzzerTestOneInput(data, size);
            free(data);
        }
        fclose(file);
    }
    printf("ran %ld inputs, no finding\n", ran);
    return ran == 0;
}
