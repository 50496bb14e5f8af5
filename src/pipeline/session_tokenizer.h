/* Which tokenizer a session works with: the adapter's where its folder has one, else the base's. */
#ifndef LA_PIPELINE_SESSION_TOKENIZER_H
#define LA_PIPELINE_SESSION_TOKENIZER_H

#include "bayes/posterior.h"
#include "text/tokenizer.h"

typedef struct la_tokenizer_request {
    const char *base, *adapter; /* adapter NULL: there is none */
    const char *adapter_name;   /* NULL: not said */
    const la_posterior
        *posterior; /* whose tokenizer it has to be, where it is one of the two; or NULL */
    const la_log *log;
} la_tokenizer_request;

/* *tokenizer is NULL where neither folder has one; rows must carry token ids then. *of_adapter: it
 * is the adapter's. Free with la_tokenizer_close. */
la_status la_session_tokenizer(const la_tokenizer_request *request, la_tokenizer **tokenizer,
                               bool *of_adapter, la_error *err);

#endif
