"""Classify pictures over HTTP, also by the Open Inference Protocol. Needs fastapi, uvicorn and python-multipart."""

import argparse
import asyncio
import json

import numpy as np
from cnn_infer import Classifier, EdgeCNNError, InputError, PictureError, usable_cpus, verify_all
from fastapi import Depends, FastAPI, Request
from starlette import exceptions as http, requests
from starlette.responses import JSONResponse, Response
from uvicorn import Config, Server

app, places, processors = FastAPI(openapi_url=None), asyncio.Semaphore(32), asyncio.Semaphore(usable_cpus())
app.exception_handler(http.HTTPException)(lambda _, e: JSONResponse({"error": e.detail}, e.status_code, e.headers))
app.exception_handler(TimeoutError)(lambda *_: JSONResponse({"error": "the body did not arrive in time"}, 408))
for wrong in (PictureError, InputError, KeyError, RecursionError, TypeError, ValueError, requests.ClientDisconnect):
    app.exception_handler(wrong)(lambda _, e: JSONResponse({"error": f"{type(e).__name__}: {e}"}, 400))


async def body(request: Request):
    if places.locked():
        raise http.HTTPException(503, "too many requests at once", {"Retry-After": "1"})
    if float(request.headers.get("content-length", "inf")) > args.max_bytes or "transfer-encoding" in request.headers:
        raise http.HTTPException(413, f"more than {args.max_bytes} bytes, or no Content-Length")
    async with places:
        data = await asyncio.wait_for(request.body(), args.timeout)
        async with processors:
            yield data


@app.post("/classify")
async def classify(request: Request, data: bytes = Depends(body, scope="function")):
    parts = (await request.form()).multi_items() if "multipart" in request.headers.get("content-type", "") else []
    files = [await part.read() for _, part in parts if not isinstance(part, str)]
    found = await asyncio.to_thread(list, clf.predict_many(files or [data], errors="yield" if files else "raise"))
    return {"predictions": [{"error": f"PictureError: {p}"} if isinstance(p, PictureError) else p for p in found]}


@app.post("/v2/models/model/infer")
@app.post("/v2/models/model/versions/1/infer")
def infer(request: Request, data: bytes = Depends(body, scope="function")):
    query = json.loads(data[: (length := int(request.headers.get("inference-header-content-length", len(data))))])
    tensor = {(one["name"], one["datatype"]): one for one in query["inputs"]}["image", "UINT8"]
    pixels = np.frombuffer(data[length:] or bytes(np.ravel(tensor["data"]).tolist()), np.uint8).reshape(tensor["shape"])
    found = np.concatenate([clf.probabilities(part) for part in np.array_split(pixels, len(pixels) // 64 + 1)])
    output = {"name": "probabilities", "datatype": "FP32", "shape": found.shape, "data": found.ravel().tolist()}
    outputs = [{"probabilities": output}[name] for name in {one["name"] for one in query.get("outputs") or [output]}]
    return JSONResponse({"model_name": "model", "model_version": "1", "id": query.get("id", ""), "outputs": outputs})


class _Server(Server):
    async def main_loop(self):
        await super().main_loop()  # until a signal; then it is not ready, but answers for two seconds what comes
        self.server_state.default_headers.append((b"connection", b"close"))
        await asyncio.sleep(2)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="a model file that cnn-export wrote")
    for name, value in {"host": "127.0.0.1", "port": 8000, "max-bytes": 16 << 20, "timeout": 30}.items():
        parser.add_argument(f"--{name}", type=type(value), default=value, help="default: %(default)s")
    args = parser.parse_args()
    server = _Server(Config(app, args.host, args.port, access_log=False, timeout_graceful_shutdown=args.timeout + 5))
    app.get("/v2")(lambda: {"name": "edgecnn", "version": "1", "extensions": []})
    for path in ("health/live", "health/ready", "models/model/ready", "models/model/versions/1/ready"):
        app.get(f"/v2/{path}")(lambda: Response(status_code=503 if server.should_exit else 200))
    try:
        clf = Classifier(args.model, max_bytes=args.max_bytes)
        verify_all(clf).passed or parser.exit(1, "this machine gives other answers: run cnn-infer --verify\n")
        image = {"name": "image", "datatype": "UINT8", "shape": [-1, *clf.spec.shape]}
        output = {"name": "probabilities", "datatype": "FP32", "shape": [-1, len(clf.spec.classes)]}
        about = {"name": "model", "versions": ["1"], "platform": "onnxruntime", "inputs": [image], "outputs": [output]}
        app.get("/v2/models/model")(app.get("/v2/models/model/versions/1")(lambda: about))
        server.run()
    except (EdgeCNNError, OverflowError, KeyboardInterrupt) as error:
        parser.exit(130) if isinstance(error, KeyboardInterrupt) else parser.exit(1, f"{error}\n")
