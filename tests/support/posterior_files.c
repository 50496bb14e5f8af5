#include "support/posterior_files.h"
#include "output/posterior_file.h"
#include "support/faults.h"

#include <string.h>

la_posterior case_load(const char *folder, const char *name) {
    la_posterior p;
    la_error err = {0};
    if (la_posterior_load(in_case(folder, name), &p, &err) != LA_OK)
        fail_msg("%s", err.message);
    return p;
}

void case_save(la_posterior *posterior, const char *folder, const char *name) {
    la_error err = {0};
    if (la_posterior_save(posterior, in_case(folder, name), &err) != LA_OK)
        fail_msg("%s", err.message);
}

void set_number(hid_t group, const char *name, double value) {
    hid_t attribute = H5Aopen(group, name, H5P_DEFAULT);
    assert_true(attribute >= 0 && H5Awrite(attribute, H5T_NATIVE_DOUBLE, &value) >= 0);
    H5Aclose(attribute);
}

void set_count(hid_t group, const char *name, int64_t value) {
    hid_t attribute = H5Aopen(group, name, H5P_DEFAULT);
    assert_true(attribute >= 0 && H5Awrite(attribute, H5T_NATIVE_INT64, &value) >= 0);
    H5Aclose(attribute);
}

void set_text(hid_t group, const char *name, const char *text) {
    hid_t type = H5Tcopy(H5T_C_S1), space = H5Screate(H5S_SCALAR);
    assert_true(H5Adelete(group, name) >= 0);
    H5Tset_size(type, strlen(text) + 1);
    hid_t attribute = H5Acreate2(group, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(attribute >= 0 && H5Awrite(attribute, type, text) >= 0);
    H5Aclose(attribute);
    H5Sclose(space);
    H5Tclose(type);
}
