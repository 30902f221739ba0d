from .benchmarks import check_counts as check_counts, read_benchmark as read_benchmark
from .doctor.examination import Diagnosis as Diagnosis, examine as examine
from .records import Benchmark as Benchmark, Record as Record, Rejection as Rejection
from .shards import list_shards as list_shards, unpack_shards as unpack_shards
