#!/bin/sh
# Removes from an environment what a running gateway never opens: installers, tests, headers, sources of compiled
# modules, debugging symbols, lexers of other languages, other databases, and the parts of pyarrow that reach other machines or
# plan queries of others. Then it compiles what the programs import. `make image-test` imports every module in the image, and uses
# each extra that it has.
# usage: trim-image.sh /app
set -eu
site=$("$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
rm -rf "$site"/pip "$site"/pip-*.dist-info "$1"/bin/pip*
find "$site" -type d \( -name tests -o -name __pycache__ \) -prune -exec rm -rf {} +
find "$site" -type f \( -name '*.pyx' -o -name '*.pxd' -o -name '*.pxi' -o -name '*.pyi' -o -name '*.h' -o -name '*.hpp' \
  -o -name '*.a' -o -name '*.proto' \) -delete
rm -rf "$site"/pyarrow/include "$site"/pyarrow/src "$site"/numpy/f2py "$site"/numpy/_core/_simd.*.so \
  "$site"/sqlalchemy/testing "$site"/sqlalchemy/dialects/oracle "$site"/sqlalchemy/dialects/mssql \
  "$site"/sqlalchemy/dialects/mysql
find "$site"/pygments/lexers -type f -not -name '__init__.py' -not -name '_mapping.py' -not -name 'python.py' \
  -not -name 'special.py' -delete
# lib.*.so asks for libarrow_python by its version alone; the other two are copies of it.
rm -f "$site"/pyarrow/libarrow_flight* "$site"/pyarrow/libarrow_s3* "$site"/pyarrow/_flight.*.so \
  "$site"/pyarrow/_s3fs.*.so "$site"/pyarrow/libarrow_python_flight* "$site"/pyarrow/libarrow_python*.so \
  "$site"/pyarrow/libarrow_python*.so.*.*.* "$site"/pyarrow/_hdfs.*.so "$site"/pyarrow/_gcsfs.*.so \
  "$site"/pyarrow/_azurefs.*.so "$site"/pyarrow/_orc.*.so "$site"/pyarrow/_dataset_orc.*.so "$site"/pyarrow/*_encryption.*so* \
  "$site"/pyarrow/_substrait.*.so "$site"/pyarrow/_acero.*.so "$site"/pyarrow/_dataset*.so \
  "$site"/pyarrow/_pyarrow_cpp_tests.*.so "$site"/numpy/_core/*_tests.*.so
# Every module of pyarrow asks for these libraries, and only those above use them: files are read and written without. Under
# their names the loader finds one that is loaded anyway, which it knows by its inode.
for name in acero dataset substrait; do
  for library in "$site/pyarrow/libarrow_$name".so.*; do
    ln -sf "libparquet.so.${library##*.so.}" "$library"
  done
done
# rapidfuzz has each function twice, and takes the plain one where this is missing.
find "$site"/rapidfuzz -name '*_avx2.*.so' -delete
if command -v strip >/dev/null; then # not in *.libs, whose files were rewritten and break
  find "$site" -type f -name '*.so*' -not -path '*.libs/*' -exec strip --strip-unneeded {} + 2>/dev/null || true
fi
"$1/bin/python" -m compileall -q -j 0 "$site/gateway"
"$1/bin/python" - <<'END'
import importlib

for name in (
    "gateway.cli", "gateway.proxy.serve", "gateway.consumer.serve", "gateway.console.serve", "gateway.proxy.http.client.httpx",
    "gateway.proxy.recording.spans", "gateway.features.status.report", "gateway.features.experiments.work", "alembic.command",
    "sqlalchemy.dialects.sqlite", "sqlalchemy.dialects.postgresql.psycopg", "opentelemetry.sdk.trace.export", "re2",
    "opentelemetry.exporter.otlp.proto.http.trace_exporter", "pyarrow.parquet", "py3langid", "jwt", "authlib.oidc.core",
    "authlib.oauth2.client", "joserfc.jwt", "rich.progress",
):
    importlib.import_module(name)
END
