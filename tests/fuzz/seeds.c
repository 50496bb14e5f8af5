/* usage: seeds FOLDER: a small posterior of every structure as laplora writes it, and one that the
 * HDF5 library edited: arrays in one piece and in many chunks, an attribute in the place of
 * another. */
#include "output/posterior_file.h"
#include "support/seal.h"
#include "support/tiny_posterior.h"

#include <hdf5.h>
#include <stdio.h>

static int save(int kind, const char *path) {
    la_error err = {0};
    la_posterior p = tiny_posterior(kind);
    la_status status = la_posterior_save(&p, path, &err);
    if (status != LA_OK)
        fprintf(stderr, "seeds: %s\n", err.message);
    la_posterior_free(&p);
    return status != LA_OK;
}

static void replace(hid_t file, const char *name, hsize_t chunk_rows) {
    const hsize_t shape[2] = {3, 6}, chunk[2] = {chunk_rows, 6};
    const float values[18] = {1, 2, 3};
    hid_t space = H5Screate_simple(2, shape, NULL), plan = H5Pcreate(H5P_DATASET_CREATE);
    if (chunk_rows) {
        H5Pset_chunk(plan, 2, chunk);
        H5Pset_fletcher32(plan);
    }
    H5Ldelete(file, name, H5P_DEFAULT);
    hid_t array = H5Dcreate2(file, name, H5T_IEEE_F32LE, space, H5P_DEFAULT, plan, H5P_DEFAULT);
    H5Dwrite(array, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values);
    H5Dclose(array);
    H5Pclose(plan);
    H5Sclose(space);
}

static int edit(const char *path) {
    la_error err = {0};
    la_posterior p;
    int64_t rows = 99;
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT), space = H5Screate(H5S_SCALAR);
    replace(file, "blocks/00000/spectrum", 0);
    replace(file, "blocks/00001/spectrum", 1);
    replace(file, "blocks/00002/spectrum", 2);
    H5Adelete(file, "n_rows");
    hid_t attribute = H5Acreate2(file, "n_rows", H5T_STD_I64LE, space, H5P_DEFAULT, H5P_DEFAULT);
    H5Awrite(attribute, H5T_NATIVE_INT64, &rows);
    H5Aclose(attribute);
    H5Sclose(space);
    H5Fclose(file);
    if (seal_file(path, &err) == LA_OK && la_posterior_load(path, &p, &err) == LA_OK) {
        la_posterior_free(&p);
        return 0;
    }
    fprintf(stderr, "seeds: %s\n", err.message);
    return 1;
}

int main(int argc, char **argv) {
    char path[4096];
    int failed = argc != 2;
    for (int kind = 0; !failed && kind < TINY_KINDS; kind++) {
        snprintf(path, sizeof path, "%s/%s.h5", argv[1], tiny_names[kind]);
        failed = save(kind, path);
    }
    if (failed)
        return 1;
    snprintf(path, sizeof path, "%s/edited.h5", argv[1]);
    return save(TINY_MANY, path) || edit(path);
}
